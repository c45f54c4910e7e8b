//! Explanations, in parts and of a daemon that tells text alone.

use expect_test::expect;

use super::*;

#[test]
fn an_explanation_is_its_lines_and_what_holds_it() {
    let reply =
        v1::ExplainResponse { lines: vec!["wants 9, has 2".into()], held: two_enis().held, ..Default::default() };
    let answer = Answer::Explanation(Box::new(convert::explanation(reply)));
    shows(
        &answer,
        TERMINAL,
        &expect![[r#"
        wants 9, has 2
        Held: SubnetExhausted: EC2 has no free address in subnet-1; free addresses there or add a subnet (again in 4s)
    "#]],
    );
    shows(
        &answer,
        JSON,
        &expect![[r#"
            {
              "lines": [
                "wants 9, has 2"
              ],
              "held": {
                "reason": "SubnetExhausted",
                "message": "EC2 has no free address in subnet-1; free addresses there or add a subnet",
                "subnet": "subnet-1",
                "count": 0,
                "retry_after_ms": 4000
              },
              "pod": [],
              "figures": [],
              "next": []
            }
        "#]],
    );
}

fn in_parts() -> v1::ExplainResponse {
    let figure = |name: &str, value, from: &str| v1::Figure { name: name.into(), value, from: from.into() };
    let next = |what: &str, within_ms, why: &str| v1::Next { what: what.into(), within_ms, why: why.into() };
    v1::ExplainResponse {
        lines: vec!["the same as text".into()],
        held: two_enis().held,
        figures: vec![
            figure("target", 3, "WARM_IP_TARGET=2 and what is wanted now"),
            figure("supply", 1, "1 free, 0 on ENIs not ready yet"),
        ],
        next: vec![
            next("assigning 2 addresses to eni-0a", None, ""),
            next("giving surplus back", Some(61_000), "it has been more than the target for a while by then"),
        ],
        pod: vec!["default/web-0: eth0 of sandbox c1 has 10.0.0.11 of eni-0a by link enia, for 5s".into()],
    }
}

#[test]
fn an_explanation_in_parts_shows_where_each_number_comes_from_and_what_is_waited_for() {
    let answer = Answer::Explanation(Box::new(convert::explanation(in_parts())));
    shows(
        &answer,
        PIPED,
        &expect![[r#"
        default/web-0: eth0 of sandbox c1 has 10.0.0.11 of eni-0a by link enia, for 5s

        FIGURE  VALUE  FROM
        target      3  WARM_IP_TARGET=2 and what is wanted now
        supply      1  1 free, 0 on ENIs not ready yet

        NEXT                             WITHIN  WHY
        assigning 2 addresses to eni-0a
        giving surplus back                1m1s  it has been more than the target for a while by then
        Held: SubnetExhausted: EC2 has no free address in subnet-1; free addresses there or add a subnet (again in 4s)
    "#]],
    );
    shows(
        &answer,
        TERMINAL,
        &expect![[r#"
        default/web-0: eth0 of sandbox c1 has 10.0.0.11 of eni-0a by link enia, for 5s

        ┌────────┬───────┬─────────────────────────────────────────┐
        │ FIGURE ┆ VALUE ┆ FROM                                    │
        ╞════════╪═══════╪═════════════════════════════════════════╡
        │ target ┆     3 ┆ WARM_IP_TARGET=2 and what is wanted now │
        │ supply ┆     1 ┆ 1 free, 0 on ENIs not ready yet         │
        └────────┴───────┴─────────────────────────────────────────┘

        ┌─────────────────────────────────┬────────┬──────────────────────────────────────────────────────┐
        │ NEXT                            ┆ WITHIN ┆ WHY                                                  │
        ╞═════════════════════════════════╪════════╪══════════════════════════════════════════════════════╡
        │ assigning 2 addresses to eni-0a ┆        ┆                                                      │
        │ giving surplus back             ┆   1m1s ┆ it has been more than the target for a while by then │
        └─────────────────────────────────┴────────┴──────────────────────────────────────────────────────┘
        Held: SubnetExhausted: EC2 has no free address in subnet-1; free addresses there or add a subnet (again in 4s)
    "#]],
    );
    shows(
        &answer,
        JSON,
        &expect![[r#"
        {
          "lines": [
            "the same as text"
          ],
          "held": {
            "reason": "SubnetExhausted",
            "message": "EC2 has no free address in subnet-1; free addresses there or add a subnet",
            "subnet": "subnet-1",
            "count": 0,
            "retry_after_ms": 4000
          },
          "pod": [
            "default/web-0: eth0 of sandbox c1 has 10.0.0.11 of eni-0a by link enia, for 5s"
          ],
          "figures": [
            {
              "name": "target",
              "value": 3,
              "from": "WARM_IP_TARGET=2 and what is wanted now"
            },
            {
              "name": "supply",
              "value": 1,
              "from": "1 free, 0 on ENIs not ready yet"
            }
          ],
          "next": [
            {
              "what": "assigning 2 addresses to eni-0a",
              "within_ms": null,
              "why": null
            },
            {
              "what": "giving surplus back",
              "within_ms": 61000,
              "why": "it has been more than the target for a while by then"
            }
          ]
        }
    "#]],
    );
    let calm = v1::ExplainResponse { next: vec![], held: None, pod: vec![], ..in_parts() };
    shows(
        &Answer::Explanation(Box::new(convert::explanation(calm))),
        PIPED,
        &expect![[r#"
        FIGURE  VALUE  FROM
        target      3  WARM_IP_TARGET=2 and what is wanted now
        supply      1  1 free, 0 on ENIs not ready yet

        Next: nothing to do
    "#]],
    );
}

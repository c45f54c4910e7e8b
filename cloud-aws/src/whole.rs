//! Whether what came back is an answer of EC2's at all, and all of it.
//!
//! Owns the check of an answer's first and last element. The SDK makes a value of as much of an answer as it can read, and of the
//! answers that say no more than yes it reads nothing: half a list would be a short list, a portal's page a success. Never looks at
//! what the elements in between mean: that is [`crate::seen`]'s.

use cloud::Action;

/// No answer comes near this size. What is larger is not read to its end.
pub(crate) const MOST: usize = 64 << 20;

/// Not an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// Somebody else's.
    #[error(
        "what came back with status {status} is not EC2's ({begins:?}): see where AWS_ENDPOINT_URL_EC2 and proxies lead"
    )]
    Foreign { status: u16, begins: String },
    /// The beginning of one.
    #[error("EC2's answer with status {status} breaks off after {length} bytes")]
    CutOff { status: u16, length: usize },
    /// An error without what says which.
    #[error("EC2's refusal with status {status} has no code")]
    Nameless { status: u16 },
    /// EC2 documents true for success, and an error for anything else.
    #[error("EC2 answered return {value:?}, not true")]
    NotTrue { value: String },
}

/// An answer that says yes.
pub(crate) fn answer(action: Action, status: u16, body: &[u8]) -> Result<(), Broken> {
    let text = document(&format!("{}Response", action.name()), status, body)?;
    let said = text.split_once("<return>").and_then(|(_, rest)| rest.split_once("</return>"));
    match said {
        Some((value, _)) if value.trim() != "true" => Err(Broken::NotTrue { value: value.to_owned() }),
        _ => Ok(()),
    }
}

/// An answer that says no.
pub(crate) fn refusal(status: u16, body: &[u8]) -> Result<(), Broken> {
    document("Response", status, body).map(drop)
}

fn document(root: &str, status: u16, body: &[u8]) -> Result<String, Broken> {
    let text = String::from_utf8_lossy(body);
    let whole = text.trim();
    let elements = whole.strip_prefix("<?xml").and_then(|rest| rest.split_once("?>")).map_or(whole, |(_, rest)| rest);
    let opened = elements.trim_start().strip_prefix('<').and_then(|rest| rest.strip_prefix(root));
    let Some(rest) = opened.filter(|rest| rest.starts_with(|next: char| next.is_whitespace() || "/>".contains(next)))
    else {
        return Err(Broken::Foreign { status, begins: whole.chars().take(80).collect() });
    };
    let empty = rest.ends_with("/>") && !rest.contains('<');
    if empty || rest.ends_with(&format!("</{root}>")) {
        Ok(text.into_owned())
    } else {
        Err(Broken::CutOff { status, length: body.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELETE: Action = Action::DeleteNetworkInterface;

    fn of(body: &str) -> Result<(), Broken> {
        answer(DELETE, 200, body.as_bytes())
    }

    #[test]
    fn an_answer_is_whole_when_its_own_element_begins_and_ends_it() {
        for body in [
            "<DeleteNetworkInterfaceResponse><return>true</return></DeleteNetworkInterfaceResponse>",
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DeleteNetworkInterfaceResponse xmlns=\"x\">\n</DeleteNetworkInterfaceResponse>\n",
            "<DeleteNetworkInterfaceResponse/>",
            "<DeleteNetworkInterfaceResponse xmlns='x' />",
        ] {
            assert_eq!(of(body), Ok(()), "{body}");
        }
        assert_eq!(refusal(400, b"<?xml version='1.0'?><Response><Errors/></Response>"), Ok(()));
    }

    #[test]
    fn what_another_element_begins_is_somebody_elses() {
        for body in [
            "",
            "<html><body>welcome</body></html>",
            "{}",
            "<?xml version=\"1.0\"?>",
            "<DeleteNetworkInterfaceResponses></DeleteNetworkInterfaceResponses>",
            "<DetachNetworkInterfaceResponse><return>true</return></DetachNetworkInterfaceResponse>",
            "<Response></Response>",
        ] {
            let begins = body.chars().take(80).collect();
            assert_eq!(of(body), Err(Broken::Foreign { status: 200, begins }));
        }
        assert!(matches!(refusal(502, b"\xff\xfe<html>"), Err(Broken::Foreign { status: 502, .. })));
    }

    #[test]
    fn what_its_own_element_does_not_end_is_cut_off() {
        let body = "<DeleteNetworkInterfaceResponse xmlns='x'><return>true</return></DeleteNetworkInterfaceRespons";
        assert_eq!(of(body), Err(Broken::CutOff { status: 200, length: body.len() }));
        assert!(matches!(refusal(400, b"<Response><Errors><Error><Code>Thr"), Err(Broken::CutOff { .. })));
    }

    #[test]
    fn an_answer_that_does_not_say_true_is_no_yes() {
        let body = "<DeleteNetworkInterfaceResponse><return>false</return></DeleteNetworkInterfaceResponse>";
        assert_eq!(of(body), Err(Broken::NotTrue { value: "false".to_owned() }));
    }
}

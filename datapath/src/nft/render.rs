//! The chains and rules, as objects of the `nftables` crate.

use std::borrow::Cow;
use std::collections::HashSet;

use ipnet::Ipv4Net;
use nftables::batch::Batch;
use nftables::expr::{
    BinaryOperation, CT, Expression, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix, Range, SetItem,
};
use nftables::schema::{
    Chain, NfCmd, NfListObject, Nftables, Rule, Set, SetFlag, SetType, SetTypeValue, Table as NfTable,
};
use nftables::stmt::{Accept, JumpTarget, Mangle, Match, NAT, NATFlag, Operator, Statement, VerdictMap};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};

use super::Table;
use crate::desired::SnatPorts;
use crate::names::{NFT_TABLE, Slot};

/// After DNAT (-100), so that the connection is known; before anything is routed.
const PREROUTING_PRIORITY: i32 = -90;

/// `srcnat`.
const POSTROUTING_PRIORITY: i32 = 100;

/// `dstnat`, as the kernel's own nat output chains.
const OUTPUT_PRIORITY: i32 = -100;

const KEEP: &str = "keep";
const REPLY: &str = "reply";

pub(super) fn transaction(table: &Table) -> Nftables<'static> {
    let mut batch = Batch::new();
    batch.add(NfListObject::Table(own_table()));
    batch.add_cmd(NfCmd::Delete(NfListObject::Table(own_table())));
    batch.add(NfListObject::Table(own_table()));
    batch.add(set("vpc", &table.vpc));
    batch.add(set("no_snat", &table.excluded));
    marks(table, &mut batch);
    prerouting(table, &mut batch);
    postrouting(table, &mut batch);
    // Under IPVS the kernel routes marked packets of the node itself again only if there is a nat output chain.
    batch.add(base_chain("output", NfChainType::NAT, NfHook::Output, OUTPUT_PRIORITY));
    batch.to_nftables()
}

pub(super) fn removal() -> Nftables<'static> {
    let mut batch = Batch::new();
    batch.add(NfListObject::Table(own_table()));
    batch.add_cmd(NfCmd::Delete(NfListObject::Table(own_table())));
    batch.to_nftables()
}

/// A chain per ENI and purpose: a verdict map leads to it faster than a map gives a value, and it keeps the other bits.
fn marks(table: &Table, batch: &mut Batch<'static>) {
    let names = &table.numbering;
    // nft 1.0.6 refuses a bare `accept` in a verdict map.
    add_chain(batch, KEEP.to_owned(), vec![vec![accept()]]);
    for &slot in &table.secondaries {
        let own = set_field(table, meta(MetaKey::Mark), names.mark(slot));
        add_chain(batch, own_chain(slot), vec![vec![own, accept()]]);
        let reply = set_field(table, meta(MetaKey::Mark), names.reply_mark(slot));
        add_chain(batch, reply_chain(slot), vec![vec![reply, accept()]]);
    }
    for (slot, _) in &table.recorded {
        let record = set_field(table, ct("mark"), names.mark(*slot));
        add_chain(batch, record_chain(*slot), vec![vec![record, accept()]]);
    }
}

fn prerouting(table: &Table, batch: &mut Batch<'static>) {
    let names = &table.numbering;
    // Replies go where the connection came in; if nobody recorded that, by the pod's own ENI.
    let mut by_record = vec![(names.mark(Slot::PRIMARY), KEEP.to_owned())];
    by_record.extend(table.secondaries.iter().map(|&slot| (names.mark(slot), reply_chain(slot))));
    let recorded =
        Expression::BinaryOperation(Box::new(BinaryOperation::AND(ct("mark"), Expression::Number(names.mark_mask()))));
    let mut replies = vec![vec![verdict_map(recorded, by_record.into_iter().map(numbered))]];
    let by_group = |chain: fn(Slot) -> String| {
        let entries = table.secondaries.iter().map(move |&slot| (names.group(slot), chain(slot)));
        let entries: Vec<_> = entries.map(numbered).collect();
        (!entries.is_empty()).then(|| vec![verdict_map(meta(MetaKey::Iifgroup), entries)])
    };
    replies.extend(by_group(reply_chain));
    add_chain(batch, REPLY.to_owned(), replies);

    batch.add(base_chain("prerouting", NfChainType::Filter, NfHook::Prerouting, PREROUTING_PRIORITY));
    let mut rules = vec![vec![equals(ct("direction"), text("reply")), goto(REPLY.to_owned())]];
    rules.extend(by_group(own_chain));
    if !table.recorded.is_empty() {
        let by_link = table.recorded.iter().map(|(slot, link)| (text(link), record_chain(*slot)));
        let new = Statement::Match(Match { left: ct("state"), right: text("new"), op: Operator::IN });
        rules.push(vec![new, verdict_map(meta(MetaKey::Iifname), by_link.collect::<Vec<_>>())]);
    }
    add_rules(batch, "prerouting", rules);
}

fn postrouting(table: &Table, batch: &mut Batch<'static>) {
    let Some(ports) = table.snat else { return };
    let names = &table.numbering;
    batch.add(base_chain("postrouting", NfChainType::NAT, NfHook::Postrouting, POSTROUTING_PRIORITY));
    let pods = Expression::Range(Box::new(Range {
        range: [Slot::PRIMARY, Slot::MAX].map(|slot| Expression::Number(names.group(slot))),
    }));
    let outside = |set: &str| Statement::Match(Match { left: destination(), right: text(set), op: Operator::NEQ });
    let flags = match ports {
        SnatPorts::FullyRandom => Some(HashSet::from([NATFlag::FullyRandom])),
        SnatPorts::Random => Some(HashSet::from([NATFlag::Random])),
        SnatPorts::Kept => None,
    };
    let snat = Statement::SNAT(Some(NAT {
        addr: Some(text(&table.primary_address.to_string())),
        family: None,
        port: None,
        flags,
    }));
    let rule = vec![
        equals(meta(MetaKey::Iifgroup), pods),
        equals(meta(MetaKey::Oifname), text(&table.primary_link)),
        outside("@vpc"),
        outside("@no_snat"),
        snat,
    ];
    add_rules(batch, "postrouting", vec![rule]);
}

fn own_chain(slot: Slot) -> String {
    format!("slot{slot}")
}

fn reply_chain(slot: Slot) -> String {
    format!("reply{slot}")
}

fn record_chain(slot: Slot) -> String {
    format!("in{slot}")
}

fn own_table() -> NfTable<'static> {
    NfTable { family: NfFamily::IP, name: NFT_TABLE.into(), handle: None }
}

fn set(name: &'static str, nets: &[Ipv4Net]) -> NfListObject<'static> {
    let elements: Vec<_> = nets.iter().copied().map(prefix).collect();
    NfListObject::Set(Box::new(Set {
        family: NfFamily::IP,
        table: NFT_TABLE.into(),
        name: name.into(),
        set_type: SetTypeValue::Single(SetType::Ipv4Addr),
        flags: Some(HashSet::from([SetFlag::Interval])),
        elem: (!elements.is_empty()).then(|| elements.into()),
        ..Set::default()
    }))
}

fn prefix(net: Ipv4Net) -> Expression<'static> {
    Expression::Named(NamedExpression::Prefix(Prefix {
        addr: Box::new(text(&net.network().to_string())),
        len: u32::from(net.prefix_len()),
    }))
}

fn base_chain(name: &'static str, kind: NfChainType, hook: NfHook, priority: i32) -> NfListObject<'static> {
    NfListObject::Chain(Chain {
        _type: Some(kind),
        hook: Some(hook),
        prio: Some(priority),
        policy: Some(NfChainPolicy::Accept),
        ..chain(name.into())
    })
}

fn chain(name: Cow<'static, str>) -> Chain<'static> {
    Chain { family: NfFamily::IP, table: NFT_TABLE.into(), name, ..Chain::default() }
}

fn add_chain(batch: &mut Batch<'static>, name: String, rules: Vec<Vec<Statement<'static>>>) {
    batch.add(NfListObject::Chain(chain(name.clone().into())));
    add_rules(batch, name, rules);
}

fn add_rules(batch: &mut Batch<'static>, chain: impl Into<Cow<'static, str>>, rules: Vec<Vec<Statement<'static>>>) {
    let chain = chain.into();
    for statements in rules {
        batch.add(NfListObject::Rule(Rule {
            family: NfFamily::IP,
            table: NFT_TABLE.into(),
            chain: chain.clone(),
            expr: statements.into(),
            ..Rule::default()
        }));
    }
}

fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

fn ct(key: &'static str) -> Expression<'static> {
    Expression::Named(NamedExpression::CT(CT { key: key.into(), family: None, dir: None }))
}

fn destination() -> Expression<'static> {
    let field = PayloadField { protocol: "ip".into(), field: "daddr".into() };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

fn text(value: &str) -> Expression<'static> {
    Expression::String(Cow::Owned(value.to_owned()))
}

fn numbered((number, chain): (u32, String)) -> (Expression<'static>, String) {
    (Expression::Number(number), chain)
}

fn equals(left: Expression<'static>, right: Expression<'static>) -> Statement<'static> {
    Statement::Match(Match { left, right, op: Operator::EQ })
}

/// `key = key & ~field | value`: the other bits stay.
fn set_field(table: &Table, key: Expression<'static>, value: u32) -> Statement<'static> {
    let others = Expression::Number(!table.numbering.mark_mask());
    let kept = Expression::BinaryOperation(Box::new(BinaryOperation::AND(key.clone(), others)));
    let value = Expression::BinaryOperation(Box::new(BinaryOperation::OR(vec![kept, Expression::Number(value)])));
    Statement::Mangle(Mangle { key, value })
}

fn verdict_map(
    key: Expression<'static>,
    entries: impl IntoIterator<Item = (Expression<'static>, String)>,
) -> Statement<'static> {
    let entries = entries.into_iter().map(|(value, chain)| SetItem::MappingStatement(value, goto(chain)));
    Statement::VerdictMap(VerdictMap { key, data: Expression::Named(NamedExpression::Set(entries.collect())) })
}

fn accept() -> Statement<'static> {
    Statement::Accept(Some(Accept {}))
}

fn goto(chain: String) -> Statement<'static> {
    Statement::Goto(JumpTarget { target: chain.into() })
}

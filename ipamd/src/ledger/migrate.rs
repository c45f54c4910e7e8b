//! Ledgers that older daemons wrote.
//!
//! Owns what each schema changed, as steps from one to the next on JSON, so that no type has to be kept as it was. Never reads or writes
//! a store: all steps end in one transaction, or none happened.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::SCHEMA;

/// Key to entry.
pub(super) type Entries = BTreeMap<String, Value>;

/// From one schema to the next. An error says which entry is not as its schema has it.
type Step = fn(Entries) -> Result<Entries, String>;

/// The steps from schema 1 on.
const STEPS: [Step; SCHEMA as usize - 1] = [prefixes];

/// Entries of an older schema in today's form.
pub(super) fn migrate(mut entries: Entries, from: u32) -> Result<Entries, String> {
    for (schema, step) in (1..).zip(STEPS).skip_while(|(schema, _)| *schema < from) {
        entries = step(entries).map_err(|why| format!("schema {schema}: {why}"))?;
    }
    Ok(entries)
}

/// Can entries of this schema be migrated.
pub(super) fn knows(schema: u32) -> bool {
    (1..=SCHEMA).contains(&schema)
}

/// 1 to 2: calls ask for addresses or for prefixes, prefixes depart too and say from which ENI, ENIs say whether they are tagged and for
/// pods, and the facts name the VPC and the zone.
fn prefixes(mut entries: Entries) -> Result<Entries, String> {
    // Nobody wrote down what they lack. The daemon reads them anew at each start; until then the pool serves what it has.
    entries.remove("facts");
    departures_by_eni(&mut entries)?;
    for (key, entry) in &mut entries {
        let changed = match key.split('/').next() {
            Some("intent") => entry.pointer_mut("/Intent/call").and_then(call_asks),
            Some("eni") => entry.pointer_mut("/Eni").and_then(eni_says),
            _ => Some(()),
        };
        changed.ok_or_else(|| format!("{key} is {entry}"))?;
    }
    Ok(entries)
}

fn call_asks(call: &mut Value) -> Option<()> {
    let call = call.as_object_mut()?;
    for (name, counted) in [("CreateEni", "addresses"), ("Assign", "count")] {
        if let Some(call) = call.get_mut(name) {
            let call = call.as_object_mut()?;
            let count = call.remove(counted)?;
            call.insert("ask".to_owned(), json!({ "Addresses": count }));
        }
    }
    if let Some(unassign) = call.get_mut("Unassign") {
        unassign.as_object_mut()?.insert("prefixes".to_owned(), json!([]));
    }
    Some(())
}

fn eni_says(eni: &mut Value) -> Option<()> {
    let eni = eni.as_object_mut()?;
    // What we create has the tag from the create call; of others the next read of EC2 says it, and of all whether their subnet is for
    // pods.
    let created = eni.get("created")?.clone();
    eni.insert("tagged".to_owned(), created);
    eni.insert("excluded".to_owned(), json!(false));
    Some(())
}

/// Schema 1 did not say which ENI an address had left: it may have been any of them.
fn departures_by_eni(entries: &mut Entries) -> Result<(), String> {
    let enis: Vec<String> = entries.keys().filter_map(|key| key.strip_prefix("eni/")).map(ToOwned::to_owned).collect();
    let old: Vec<String> = entries.keys().filter(|key| key.starts_with("departed/")).cloned().collect();
    for key in old {
        let entry = entries.remove(&key).unwrap_or_default();
        let (Some(address), Some(at)) = (entry.pointer("/Departed/0"), entry.pointer("/Departed/1")) else {
            return Err(format!("{key} is {entry}"));
        };
        let what = key.trim_start_matches("departed/");
        for eni in &enis {
            let departed = json!({ "Departed": [eni, { "Address": address }, at] });
            entries.insert(format!("departed/{eni}/{what}"), departed);
        }
    }
    Ok(())
}

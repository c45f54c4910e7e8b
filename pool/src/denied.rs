//! What the node may not do, for whoever watches over its health.
//!
//! Owns which refusals of EC2 are worth telling although no pod has met them. Never decides what is done about them: pauses do.

use crate::{Action, Refusal, State};

impl State {
    /// What EC2 refuses until somebody changes something, each refusal once: permissions that are missing and have not been seen to be
    /// there since, what EC2 called wrong a moment ago, and facts of the instance that cannot be had. Empty on a node that is well.
    pub fn troubles(&self) -> Vec<Refusal> {
        let denied = self.pauses.reasons().filter(|reason| matches!(reason, Refusal::Denied { .. }));
        let failing = self.pauses.all(self.applied).map(|(_, _, reason)| reason).filter(|reason| {
            matches!(reason, Refusal::CloudError { .. } | Refusal::AccountQuota | Refusal::CloudUnreachable { .. })
        });
        let mut troubles: Vec<Refusal> = Vec::new();
        for trouble in self.facts_missing.iter().chain(denied).chain(failing) {
            if !troubles.contains(trouble) {
                troubles.push(trouble.clone());
            }
        }
        troubles
    }
}

/// The action that EC2 says is missing. It may be another than was called: creating an ENI with tags takes `CreateTags`, too.
/// The words are those of IAM ("... is not authorized to perform: ec2:CreateTags on resource: ...").
pub(crate) fn action(called: Action, message: &str) -> String {
    let named = message.split_once("authorized to perform: ec2:").map(|(_, rest)| rest);
    let word = named.and_then(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric()).next());
    word.filter(|word| !word.is_empty()).unwrap_or(called.name()).to_owned()
}

//! XML as EC2 writes it: elements in order, lists of `<item>`, nothing else.

use std::fmt::{Display, Write as _};

use sim::Fault;

const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

/// Elements one after the other.
#[derive(Debug, Default)]
pub(super) struct Xml(String);

impl Xml {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// `<name>value</name>`
    pub(super) fn text(mut self, name: &str, value: impl Display) -> Self {
        self.open(name);
        for c in value.to_string().chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                c => self.0.push(c),
            }
        }
        self.close(name)
    }

    /// The same, if there is a value.
    pub(super) fn maybe(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// Elements within an element.
    pub(super) fn within(mut self, name: &str, inner: Self) -> Self {
        self.open(name);
        self.0.push_str(&inner.0);
        self.close(name)
    }

    /// A list, also when it is empty.
    pub(super) fn list(mut self, name: &str, items: impl IntoIterator<Item = Self>) -> Self {
        self.open(name);
        for item in items {
            self = self.within("item", item);
        }
        self.close(name)
    }

    /// The whole document of an answer.
    pub(super) fn answer(self, action: &str, request_id: &str) -> String {
        let head = Self::new().text("requestId", request_id).0;
        let body = self.0;
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <{action}Response xmlns=\"{NAMESPACE}\">{head}{body}</{action}Response>"
        )
    }

    fn open(&mut self, name: &str) {
        write!(self.0, "<{name}>").expect("a string takes all text");
    }

    fn close(mut self, name: &str) -> Self {
        write!(self.0, "</{name}>").expect("a string takes all text");
        self
    }
}

/// The whole document of a refusal.
pub(super) fn fault(fault: &Fault, request_id: &str) -> String {
    let error = Xml::new().text("Code", &fault.code).text("Message", &fault.message);
    let errors = Xml::new().within("Errors", Xml::new().within("Error", error)).text("RequestID", request_id).0;
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response>{errors}</Response>")
}

//! The search for candidate paths: from the leaf by issuer names toward anchors, with bounds that nothing in a presented
//! chain can lift. No signature is verified here.
//!
//! webpki searches by itself whatever it is given, and its work grows exponentially with that. So each candidate found here
//! goes to webpki alone: exactly its intermediates, exactly one anchor. The subjects of a candidate's intermediates all
//! differ; at each step webpki therefore finds one intermediate by name, and its search is a walk. What a chain costs is
//! at most `PATHS_TRIED_MAX` candidates, times the anchors that share a name, times the length of the path.

use super::anchors::Anchor;
use super::certificate::Certificate;
use super::policy::Policy;
use crate::config::limits;

/// One possible issuer: a certificate that the client sent or that the operator gave as a helper.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub certificate: Certificate<'a>,
    pub origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Position in the message; the leaf is 0.
    Presented(usize),
    Helper,
}

/// A path that fits by names.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    /// Indices into [`Search::nodes`], from the leaf up.
    pub intermediates: Vec<usize>,
    /// The anchors with the name of the last issuer, the likeliest first.
    pub anchors: Vec<&'a Anchor>,
}

/// What the search found.
#[derive(Debug)]
pub(super) struct Search<'a> {
    pub nodes: Vec<Node<'a>>,
    pub candidates: Vec<Candidate<'a>>,
    /// Intermediates of the shortest path that is longer than the site allows.
    pub too_deep: Option<usize>,
    /// The longest way up that was walked, for telling what is missing above it.
    pub highest: Vec<usize>,
    /// A bound ended the search before everything was looked at.
    pub cut_short: bool,
    steps: usize,
}

/// Searches candidate paths. `presented` is what came behind the leaf, in its order.
pub(super) fn search<'a>(
    leaf: &Certificate<'a>,
    presented: Vec<Certificate<'a>>,
    policy: &'a Policy,
    now: i64,
) -> Search<'a> {
    let own = presented.into_iter().enumerate();
    let nodes = own.map(|(i, certificate)| Node { certificate, origin: Origin::Presented(i + 1) }).collect::<Vec<_>>();
    let mut search = Search { nodes, candidates: vec![], too_deep: None, highest: vec![], cut_short: false, steps: 0 };
    let mut by_subject: Vec<usize> = (0..search.nodes.len()).collect();
    by_subject.sort_by(|a, b| search.nodes[*a].certificate.subject.cmp(search.nodes[*b].certificate.subject));
    let mut walk = Walk { search: &mut search, by_subject, policy, now };
    walk.extend(leaf, &mut Vec::new());
    search
}

#[cfg(test)]
impl Search<'_> {
    pub(super) fn steps(&self) -> usize {
        self.steps
    }
}

struct Walk<'s, 'a> {
    search: &'s mut Search<'a>,
    /// Indices of the presented certificates, sorted by subject.
    by_subject: Vec<usize>,
    policy: &'a Policy,
    now: i64,
}

impl<'a> Walk<'_, 'a> {
    /// Looks for issuers of `head`, the last certificate of the path.
    fn extend(&mut self, head: &Certificate<'a>, path: &mut Vec<usize>) {
        if path.len() > self.search.highest.len() {
            self.search.highest.clone_from(path);
        }
        self.add_candidate(head, path);
        if path.len() >= limits::PATH_INTERMEDIATES_SEARCHED_MAX {
            self.search.cut_short = true;
            return;
        }
        for issuer in self.issuers(head, path) {
            if self.is_done() {
                return;
            }
            self.search.steps += 1;
            path.push(issuer);
            let next = self.search.nodes[issuer].certificate.clone();
            self.extend(&next, path);
            path.pop();
        }
    }

    fn is_done(&mut self) -> bool {
        let done =
            self.search.candidates.len() >= limits::PATHS_TRIED_MAX || self.search.steps >= limits::PATH_STEPS_MAX;
        self.search.cut_short |= done;
        done
    }

    /// Notes the path if anchors have the name of `head`'s issuer.
    fn add_candidate(&mut self, head: &Certificate<'a>, path: &[usize]) {
        let indices = self.policy.anchors_by_subject.get(head.issuer);
        if indices.is_empty() {
            return;
        }
        if path.len() > self.policy.max_depth {
            self.search.too_deep = Some(self.search.too_deep.map_or(path.len(), |least| least.min(path.len())));
            return;
        }
        let mut anchors: Vec<&Anchor> = indices.iter().map(|i| &self.policy.anchors[*i]).collect();
        let wanted = head.authority_key().key_id;
        anchors.sort_by_key(|anchor| (mismatch(wanted, anchor.key_id.as_deref()), !anchor.is_valid_at(self.now)));
        self.search.candidates.push(Candidate { intermediates: path.to_vec(), anchors });
    }

    /// Certificates with the name of `head`'s issuer that may come next, the likeliest first.
    fn issuers(&mut self, head: &Certificate<'a>, path: &[usize]) -> Vec<usize> {
        let name = head.issuer;
        if path.iter().any(|i| self.search.nodes[*i].certificate.subject == name) {
            return Vec::new();
        }
        self.load_helpers(name);
        let nodes = &self.search.nodes;
        let start = self.by_subject.partition_point(|i| nodes[*i].certificate.subject < name);
        let same_name = self.by_subject[start..].iter().take_while(|i| nodes[**i].certificate.subject == name);
        let mut found: Vec<usize> = Vec::new();
        for i in same_name.copied() {
            let certificate = &nodes[i].certificate;
            // The anchor itself, sent along, is a detour; the same CA certified by another one is not.
            let is_anchor = |anchor: &usize| *self.policy.anchors[*anchor].spki == *certificate.spki;
            let is_detour =
                certificate.is_self_issued() && self.policy.anchors_by_subject.get(name).iter().any(is_anchor);
            if !is_detour && !found.iter().any(|other| nodes[*other].certificate.der == certificate.der) {
                found.push(i);
            }
            if found.len() >= limits::PATH_STEPS_MAX {
                break;
            }
        }
        let wanted = head.authority_key().key_id;
        found.sort_by_cached_key(|i| {
            let certificate = &nodes[*i].certificate;
            (
                mismatch(wanted, certificate.subject_key_id()),
                !certificate.is_ca(),
                !certificate.is_valid_at(self.now),
                *i,
            )
        });
        found
    }

    /// Brings the helpers with this name among the nodes, once.
    fn load_helpers(&mut self, name: &[u8]) {
        let loaded = |node: &Node<'_>| node.origin == Origin::Helper && node.certificate.subject == name;
        if self.search.nodes.iter().any(loaded) {
            return;
        }
        for index in self.policy.helpers_by_subject.get(name) {
            if let Ok(certificate) = Certificate::parse(&self.policy.helpers[*index]) {
                let at = self.search.nodes.len();
                let nodes = &self.search.nodes;
                let place = self.by_subject.partition_point(|i| nodes[*i].certificate.subject <= certificate.subject);
                self.by_subject.insert(place, at);
                self.search.nodes.push(Node { certificate, origin: Origin::Helper });
            }
        }
    }
}

/// Whether two key identifiers contradict each other, as a sort key: a match first, then the unknown, then a contradiction.
pub(super) fn mismatch(wanted: Option<&[u8]>, given: Option<&[u8]>) -> u8 {
    match (wanted, given) {
        (Some(wanted), Some(given)) if wanted == given => 0,
        (Some(_), Some(_)) => 2,
        _ => 1,
    }
}

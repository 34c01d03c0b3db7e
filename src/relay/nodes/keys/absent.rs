//! Nodes whose own entries are missing, without I/O.

use std::collections::HashMap;

/// A node is lost if its entry was missing at so many looks in a row, and it does not respond.
const LOOKS: u32 = 3;
/// Nodes whose entries are missing, by `id:epoch`, and for how many looks.
#[derive(Default)]
pub(super) struct Absent(HashMap<String, u32>);

impl Absent {
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// Records one look. `members`: the starts of nodes, and whether each has its entry. Returns those that are lost.
    pub(super) fn look(&mut self, members: impl Iterator<Item = (String, bool)>) -> Vec<String> {
        let before = std::mem::take(&mut self.0);
        let mut lost = Vec::new();
        for (member, present) in members {
            if !present {
                let looks = before.get(&member).copied().unwrap_or(0) + 1;
                if looks >= LOOKS {
                    lost.push(member.clone());
                }
                self.0.insert(member, looks);
            }
        }
        lost
    }
}

/// Returns the id and the start of a node.
pub(super) fn parts(member: &str) -> Option<(&str, &str)> {
    member.split_once(':').filter(|(node, epoch)| !node.is_empty() && !epoch.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_lost_after_three_looks_in_a_row() {
        let mut absent = Absent::default();
        let look = |absent: &mut Absent, a: bool, b: bool| {
            absent.look([("a:1".to_owned(), a), ("b:2".to_owned(), b)].into_iter())
        };
        assert!(look(&mut absent, true, false).is_empty());
        assert!(look(&mut absent, false, false).is_empty());
        assert_eq!(look(&mut absent, true, false), ["b:2"]);
        assert!(look(&mut absent, false, true).is_empty(), "the other has been there in between");
        assert!(look(&mut absent, false, false).is_empty());
        assert_eq!(look(&mut absent, false, false), ["a:1"]);
    }

    #[test]
    fn names_of_starts() {
        assert_eq!(parts("a:1"), Some(("a", "1")));
        assert!([":1", "a:", "a", ""].iter().all(|member| parts(member).is_none()));
    }
}

//! The text that says which host calls to make when.

use std::collections::BTreeMap;

/// All cases by their names.
#[derive(Default)]
pub(crate) struct Script {
    cases: BTreeMap<String, Vec<Scene>>,
    /// The cases of connections, by the client's IP address.
    clients: BTreeMap<String, String>,
}

/// What to do in one callback.
struct Scene {
    callback: String,
    /// Only at its n-th call, counted from one.
    turn: Option<u32>,
    lines: Vec<String>,
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    ///
    /// The line that has no meaning where it stands.
    pub(crate) fn read(text: &str) -> Result<Self, &str> {
        let mut script = Self::default();
        let mut scenes = None;
        for line in text.lines().map(str::trim).filter(|it| !it.is_empty()) {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("case"), Some(name)) => {
                    if let Some(address) = words.next() {
                        script.clients.insert(address.to_owned(), name.to_owned());
                    }
                    scenes = Some(script.cases.entry(name.to_owned()).or_default());
                }
                (Some("on"), Some(callback)) => {
                    let turn = words.next().and_then(|word| word.parse().ok());
                    let scene = Scene { callback: callback.to_owned(), turn, lines: Vec::new() };
                    scenes.as_mut().ok_or(line)?.push(scene);
                }
                _ => {
                    let scene = scenes.as_mut().and_then(|scenes| scenes.last_mut());
                    scene.ok_or(line)?.lines.push(line.to_owned());
                }
            }
        }
        Ok(script)
    }

    /// The case of a connection from `IP:PORT`.
    pub(crate) fn case_of(&self, client: &str) -> Option<&str> {
        let (ip, _) = client.rsplit_once(':')?;
        self.clients.get(ip).map(String::as_str)
    }

    /// What to do at the `turn`-th call of a callback.
    pub(crate) fn lines(&self, case: &str, callback: &str, turn: u32) -> Vec<String> {
        let scenes = self.cases.get(case).into_iter().flatten();
        scenes
            .filter(|it| it.callback == callback && it.turn.is_none_or(|at| at == turn))
            .flat_map(|scene| scene.lines.clone())
            .collect()
    }
}

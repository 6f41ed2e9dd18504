//! One way to write each path: what rules match on must be what the origin is asked for.
//!
//! As Envoy with `normalize_path`, `merge_slashes` and `UNESCAPE_AND_REDIRECT`: dot segments
//! are resolved, slashes merged, `\` is `/`, and needless escapes of letters, digits and
//! `-._~` are undone. A path with an escaped slash means different things to different
//! readers: whoever asks for one is sent to the same path with the slash written out.

/// What becomes of a path with its query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Normalized {
    /// It was written that way already.
    Same,
    /// It is this.
    Path(String),
    /// It held an escaped slash: to be asked for as this.
    Redirect(String),
}

/// Normalizes a path with its query, which stays as it is.
pub(super) fn normalize(whole: &str) -> Normalized {
    let end = whole.find('?').unwrap_or(whole.len());
    let (path, query) = whole.split_at(end);
    if !path.starts_with('/') || is_plain(path) {
        // `*` of OPTIONS among them.
        return Normalized::Same;
    }
    let (unescaped, had_slash) = unescape(path);
    let mut normal = resolve(&unescaped);
    let is_same = normal == path;
    normal.push_str(query);
    match (had_slash, is_same) {
        (true, _) => Normalized::Redirect(normal),
        (false, true) => Normalized::Same,
        (false, false) => Normalized::Path(normal),
    }
}

/// Whether there is nothing to look at: by far most paths.
fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    let is_odd = |pair: &[u8]| pair[0] == b'/' && (pair[1] == b'/' || pair[1] == b'.');
    !bytes.iter().any(|byte| matches!(byte, b'%' | b'\\')) && !bytes.windows(2).any(is_odd)
}

/// Undoes escapes of what needs none, and of slashes; says whether there was a slash.
fn unescape(path: &str) -> (String, bool) {
    let (mut out, mut had_slash) = (String::with_capacity(path.len()), false);
    let mut rest = path;
    while let Some(at) = rest.find(['%', '\\']) {
        out.push_str(&rest[..at]);
        if rest[at..].starts_with('\\') {
            out.push('/');
            rest = &rest[at + 1..];
            continue;
        }
        match escaped(&rest[at..]) {
            Some(b'/' | b'\\') => {
                had_slash = true;
                out.push('/');
                rest = &rest[at + 3..];
            }
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                out.push(char::from(byte));
                rest = &rest[at + 3..];
            }
            _ => {
                out.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    (out, had_slash)
}

/// The byte that `%XX` at the start stands for.
fn escaped(text: &str) -> Option<u8> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let bytes = text.as_bytes();
    let value = digit(bytes.get(1))? * 16 + digit(bytes.get(2))?;
    u8::try_from(value).ok()
}

/// Merges slashes and resolves `.` and `..`, which never lead above the root.
fn resolve(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut is_folder = true;
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        is_folder = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &segments {
        out.push('/');
        out.push_str(segment);
    }
    if out.is_empty() || is_folder || path.ends_with('/') {
        out.push('/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_one_way_to_be_written() {
        for (typed, meant) in [
            ("/", "/"),
            ("/a/b?c=//..", "/a/b?c=//.."),
            ("//a///b/", "/a/b/"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/../../a", "/a"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a...b/..c", "/a...b/..c"),
            ("/%61pi/%2e%2E/x", "/x"),
            ("/a%20b%3F", "/a%20b%3F"),
            ("/100%", "/100%"),
            ("/%4", "/%4"),
            ("/%zz%e9", "/%zz%e9"),
            ("/a\\b", "/a/b"),
            ("*", "*"),
        ] {
            let is = match normalize(typed) {
                Normalized::Same => typed.to_owned(),
                Normalized::Path(path) => path,
                Normalized::Redirect(to) => panic!("{typed} leads to {to}"),
            };
            assert_eq!(is, meant, "{typed}");
        }
    }

    #[test]
    fn an_escaped_slash_is_sent_back() {
        for (typed, to) in [("/a%2Fb?c", "/a/b?c"), ("/a%5c..%2fb", "/b"), ("/%2f%2fhost", "/host")]
        {
            assert_eq!(normalize(typed), Normalized::Redirect(to.to_owned()), "{typed}");
        }
    }
}

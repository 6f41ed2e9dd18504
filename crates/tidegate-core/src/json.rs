//! What all readers of JSON here share: the escapes of its texts (RFC 8259 section 7).

/// Reads what stands behind a backslash, from `at` on; `at` is behind it then, or at what is wrong.
/// A character beyond U+FFFF is two escapes.
///
/// # Errors
///
/// What is wrong, or what was wanted.
pub fn escaped(text: &[u8], at: &mut usize) -> Result<char, &'static str> {
    let char = match text.get(*at) {
        Some(same @ (b'"' | b'\\' | b'/')) => char::from(*same),
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return code_point(text, at),
        _ => return Err("an escape that JSON does not have"),
    };
    *at += 1;
    Ok(char)
}

/// `u263a`, or for a character beyond U+FFFF two of them: `ud83d\ude00`.
fn code_point(text: &[u8], at: &mut usize) -> Result<char, &'static str> {
    let mut code = hex(text, at)?;
    if (0xd800..0xdc00).contains(&code) && text.get(*at) == Some(&b'\\') {
        *at += 1;
        let low = hex(text, at)?;
        if (0xdc00..0xe000).contains(&low) {
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
    }
    char::from_u32(code).ok_or("half of a character, without its other half")
}

/// `u` and four digits.
fn hex(text: &[u8], at: &mut usize) -> Result<u32, &'static str> {
    const WANTED: &str = "expected `u` and four hexadecimal digits";
    if text.get(*at) != Some(&b'u') {
        return Err(WANTED);
    }
    *at += 1;
    let mut code = 0;
    for _ in 0..4 {
        let digit = text.get(*at).and_then(|byte| char::from(*byte).to_digit(16));
        code = code << 4 | digit.ok_or(WANTED)?;
        *at += 1;
    }
    Ok(code)
}

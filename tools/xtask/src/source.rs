//! A look at Rust source that is just good enough for the checks: code without its comments, literals and tests.

use std::collections::BTreeSet;

/// `text` with every comment, string and character literal blanked out; lines stay where they are.
pub(crate) fn code_only(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < characters.len() {
        let end = match characters[at] {
            '/' if characters.get(at + 1) == Some(&'/') => end_of_line(&characters, at),
            '/' if characters.get(at + 1) == Some(&'*') => end_of_block_comment(&characters, at),
            '"' => end_of_string(&characters, at),
            '\'' => end_of_character(&characters, at),
            'r' | 'b' | 'c' if !continues_a_name(&characters, at) => end_of_prefixed_string(&characters, at),
            _ => at,
        };
        if end == at {
            code.push(characters[at]);
            at += 1;
        } else {
            blank(&characters[at..end], &mut code);
            at = end;
        }
    }
    code
}

/// `code` (see [`code_only`]) without the items under `#[cfg(test)]`, and the modules in other files that such an
/// item declares (`#[cfg(test)] mod tests;`).
pub(crate) fn without_tests(code: &str) -> (String, BTreeSet<String>) {
    let mut kept = String::with_capacity(code.len());
    let mut modules = BTreeSet::new();
    let mut rest = code;
    while let Some(start) = find_test_attribute(rest) {
        let (before, item) = rest.split_at(start);
        kept.push_str(before);
        let end = end_of_item(item);
        let (item, after) = item.split_at(end);
        if let Some(name) = declared_module(item) {
            modules.insert(name);
        }
        kept.extend(item.chars().filter(|character| *character == '\n'));
        rest = after;
    }
    kept.push_str(rest);
    (kept, modules)
}

/// The lines (from 1) on which `word` stands as a whole identifier.
pub(crate) fn lines_with_word(code: &str, word: &str) -> Vec<usize> {
    let holds = |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            !line[..at].chars().next_back().is_some_and(is_name)
                && !line[at + word.len()..].chars().next().is_some_and(is_name)
        })
    };
    code.lines().enumerate().filter(|(_, line)| holds(line)).map(|(index, _)| index + 1).collect()
}

fn find_test_attribute(code: &str) -> Option<usize> {
    ["#[cfg(test)]", "#[cfg(all(test"].iter().filter_map(|attribute| code.find(attribute)).min()
}

/// Where the item that begins (with its attributes) at the start of `text` ends.
fn end_of_item(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut in_attribute = false;
    for (at, character) in text.char_indices() {
        match character {
            '#' if depth == 0 => in_attribute = true,
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && character == '}' {
                    return at + 1;
                }
                if depth == 0 && character == ']' {
                    in_attribute = false;
                }
            }
            ';' if depth == 0 && !in_attribute => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn declared_module(item: &str) -> Option<String> {
    let declaration = item.trim_end().strip_suffix(';')?;
    let name = declaration.rsplit(char::is_whitespace).next()?;
    let before = declaration.strip_suffix(name)?.trim_end();
    before.ends_with("mod").then(|| name.to_owned())
}

fn end_of_line(text: &[char], at: usize) -> usize {
    text[at..].iter().position(|character| *character == '\n').map_or(text.len(), |length| at + length)
}

fn end_of_block_comment(text: &[char], at: usize) -> usize {
    let mut depth = 0_usize;
    let mut position = at;
    while position < text.len() {
        match (text[position], text.get(position + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                position += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                position += 2;
                if depth == 0 {
                    return position;
                }
            }
            _ => position += 1,
        }
    }
    text.len()
}

fn end_of_string(text: &[char], quote: usize) -> usize {
    let mut position = quote + 1;
    while position < text.len() {
        match text[position] {
            '\\' => position += 2,
            '"' => return position + 1,
            _ => position += 1,
        }
    }
    text.len()
}

/// The end of a character literal, or `at` itself when the quote begins a lifetime.
fn end_of_character(text: &[char], at: usize) -> usize {
    match (text.get(at + 1), text.get(at + 2)) {
        (Some('\\'), _) => {
            let from = (at + 3).min(text.len());
            text[from..]
                .iter()
                .position(|character| *character == '\'')
                .map_or(text.len(), |length| from + length + 1)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

/// The end of `r"..."`, `br#"..."#`, `b"..."`, `c"..."` or `b'.'`, or `at` when none of these begins here.
fn end_of_prefixed_string(text: &[char], at: usize) -> usize {
    let mut position = at;
    let mut raw = false;
    while let Some(character) = text.get(position) {
        match character {
            'b' | 'c' if position == at => position += 1,
            'r' if !raw => {
                raw = true;
                position += 1;
            }
            _ => break,
        }
    }
    let hashes =
        if raw { text[position..].iter().take_while(|character| **character == '#').count() } else { 0 };
    match text.get(position + hashes) {
        Some('"') if raw => {
            let mut end = position + hashes + 1;
            while end < text.len() {
                if text[end] == '"'
                    && text[end + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
                {
                    return end + 1 + hashes;
                }
                end += 1;
            }
            text.len()
        }
        Some('"') => end_of_string(text, position),
        Some('\'') if hashes == 0 && !raw => end_of_character(text, position).max(at),
        _ => at,
    }
}

fn continues_a_name(text: &[char], at: usize) -> bool {
    at > 0 && is_name(text[at - 1])
}

fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn blank(characters: &[char], code: &mut String) {
    code.extend(characters.iter().map(|character| if *character == '\n' { '\n' } else { ' ' }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_vanish_and_lines_stay() {
        let text = "let a = \"std::x\"; // std\n/* std /* std */\nstd */ let b = 'a'; let c = r#\"std \" std\"#;\nfn d<'a>(e: &'a str) {}\nlet f = b'\\''; std::g();";
        let code = code_only(text);
        assert_eq!(code.lines().count(), 5);
        assert_eq!(lines_with_word(&code, "std"), vec![5]);
        assert!(code.contains("fn d<'a>(e: &'a str)"));
    }

    #[test]
    fn words_are_whole() {
        assert_eq!(lines_with_word("no_std\nstdx\n(std)\n", "std"), vec![3]);
    }

    #[test]
    fn items_under_cfg_test_vanish() {
        let text = "use a;\n#[cfg(test)]\nuse std::b;\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n  fn c() { std::d(); }\n}\nfn e() {}\n#[cfg(test)]\nmod checks;\nfn f() {}\n";
        let (kept, modules) = without_tests(&code_only(text));
        assert!(lines_with_word(&kept, "std").is_empty());
        assert!(kept.contains("fn e()") && kept.contains("fn f()") && !kept.contains("fn c()"));
        assert_eq!(modules.into_iter().collect::<Vec<_>>(), vec!["checks".to_owned()]);
    }
}

//! What statements may not contain.

use std::path::Path;

use super::*;

#[test]
fn every_statement_has_its_own_index() {
    let keys = [PostgresAdvisoryLockKey::Single(1), PostgresAdvisoryLockKey::Pair(1, 2)];
    let mut seen = std::collections::HashSet::new();
    for call in [Call::Try, Call::Block, Call::Unlock, Call::Probe] {
        for form in [Form::Exclusive, Form::Shared] {
            for key in keys {
                assert!(call.index(form, key) < Call::STATEMENTS);
                assert!(seen.insert(call.index(form, key)));
            }
        }
    }
}

#[test]
fn a_server_lets_go_later_than_a_holder_is_notified() {
    let settings = session_settings(Duration::from_secs(5));
    assert!(settings.contains("('tcp_keepalives_idle', '10')"), "{settings}");
    assert!(settings.contains("('tcp_user_timeout', '15000')"), "{settings}");
}

/// The rule of this module, for every string in it: also for one that no test runs.
#[test]
fn row_71_statements_name_nothing_without_its_schema() {
    let strings = strings(include_str!("../sql.rs"));
    // A name of its own, such as that of the channel, is no statement.
    for statement in strings.iter().filter(|string| string.contains([' ', ':', '('])) {
        assert_eq!(unqualified(statement), Vec::<String>::new(), "{statement}");
    }
}

#[test]
fn row_71_names_without_their_schema_are_found() {
    let bad = [
        "SELECT pg_try_advisory_lock($1)",
        "SELECT $1::int8",
        "SELECT 1 FROM pg_locks l",
        "SELECT 1 FROM pg_catalog.pg_locks JOIN pg_class ON true",
        "SELECT a = b",
        "SELECT a OPERATOR(pg_catalog.=) b AND c<d",
        "SELECT 1 WHERE a IN (1)",
        "SELECT CASE a WHEN 1 THEN 2 END",
        "SELECT a IS DISTINCT FROM b",
    ];
    for statement in bad {
        assert_ne!(unqualified(statement), Vec::<String>::new(), "{statement}");
    }
    let good = "SELECT CASE WHEN pg_catalog.f($1::pg_catalog.int8[]) THEN coalesce(a, 'b = c()') END \
                FROM (VALUES ('a', '1')) AS wanted (name, value) JOIN pg_catalog.pg_class c ON c.oid \
                OPERATOR(pg_catalog.=) -1";
    assert_eq!(unqualified(good), Vec::<String>::new());
}

/// Statements are written in one file, where the rule is checked.
#[test]
fn row_71_no_other_file_has_statements() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![sources];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            if path.ends_with("connection/sql.rs") || path.ends_with("tests.rs") {
                continue;
            }
            let product = text.split("#[cfg(test)]").next().unwrap_or_default();
            for string in strings(product) {
                let found = ["SELECT ", "pg_", "::int", "LISTEN", "INSERT ", "SET "];
                let found = found.iter().find(|word| string.contains(**word));
                assert!(found.is_none(), "{}: {string}", path.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen} files");
}

/// The string literals of a Rust source that are no documentation, with continued lines joined.
fn strings(source: &str) -> Vec<String> {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n").replace("'\"'", "' '");
    let (mut strings, mut current) = (Vec::new(), None::<String>);
    let mut characters = code.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, &mut current) {
            ('"', None) => current = Some(String::new()),
            ('"', Some(_)) => strings.extend(current.take()),
            ('\\', Some(text)) => match characters.next() {
                Some('\n') => while characters.next_if(|next| next.is_whitespace()).is_some() {},
                Some(escaped) => text.push(escaped),
                None => {}
            },
            (_, Some(text)) => text.push(character),
            (_, None) => {}
        }
    }
    strings
}

/// What a statement, or a part of one, names without `pg_catalog`.
fn unqualified(statement: &str) -> Vec<String> {
    // Words of the grammar that a parenthesis may follow, and names of columns.
    const GRAMMAR: [&str; 15] = [
        "THEN", "NOT", "VALUES", "coalesce", "EXISTS", "OPERATOR", "AND", "OR", "WHERE", "ON",
        "wanted", "FROM", "SELECT", "extract", "ANY",
    ];
    const BANNED: [&str; 7] = ["IN", "USING", "LIKE", "ILIKE", "BETWEEN", "SIMILAR", "DISTINCT"];
    // Texts, and what is filled in, are no names.
    let mut plain = String::new();
    for (index, part) in statement.split('\'').enumerate() {
        plain.push_str(if index % 2 == 0 { part } else { "0" });
    }
    let plain = plain.replace("::", " ::").replace("-1", "1");
    let mut found = Vec::new();
    let words: Vec<_> = words(&plain);
    for (index, word) in words.iter().enumerate() {
        let before = index.checked_sub(1).map_or("", |index| &words[index]);
        let after = words.get(index + 1).map_or("", |word| word);
        let is_name = word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let is_qualified = word.starts_with("pg_catalog.");
        let is_operator = word.chars().all(|c| "+-*/<>=~!@#%^&|`?".contains(c));
        let names = match before {
            "::" => true,
            "FROM" | "JOIN" => is_name && *word != "VALUES",
            _ => {
                is_name
                    && after == "("
                    && !word.starts_with(OPERATOR)
                    && !GRAMMAR.contains(&word.as_str())
            }
        };
        let is_bare = names && !is_qualified
            || is_operator
            || BANNED.contains(&word.as_str())
            || word == "CASE" && after != "WHEN";
        if is_bare {
            found.push(word.clone());
        }
    }
    found
}

const OPERATOR: &str = "OPERATOR(pg_catalog.";

/// Names with their schema, operators, and single characters; `OPERATOR(schema.x)` is one word.
fn words(statement: &str) -> Vec<String> {
    let (mut words, mut rest) = (Vec::new(), statement.trim_start());
    while let Some(first) = rest.chars().next() {
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || "_.{}$".contains(c);
        let is_of_operator = |c: char| "+-*/<>=~!@#%^&|`?".contains(c);
        let length = if rest.starts_with(OPERATOR) {
            rest.find(')').map_or(rest.len(), |end| end + 1)
        } else if rest.starts_with("::") {
            2
        } else if is_of_name(first) {
            rest.find(|c| !is_of_name(c)).unwrap_or(rest.len())
        } else if is_of_operator(first) {
            rest.find(|c| !is_of_operator(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (word, after) = rest.split_at(length);
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}

r"""What is refused because it would read or write a file of the machine, run a program, or open a connection.

Four layers, each for what the one before can't reach:

1. the engine's access control (config.py): every source, table engine and statement that has a privilege
2. this module: what needs no privilege in chDB - INTO OUTFILE, FROM INFILE, file(), python(), executable(), disk(),
   table engines beyond the granted - and texts that are not exactly one statement
3. a function of ours in the place of file() (engine.py), which also holds inside of rows
4. the kernel (sandbox.py), where it has Landlock

This module does not parse SQL. A text is harmless if none of a few words is anywhere in it and no backslash, which
could spell such a word in a quoted name. Otherwise the engine's parser writes the statement anew (formatQuery), without
comments and with one way to write each construct, and that is looked at, token by token.
"""

from __future__ import annotations

from meterfold_local.clickhouse import config
from meterfold_local.clickhouse.engine import Session
from meterfold_local.clickhouse.errors import QueryError
from meterfold_local.clickhouse.lexer import Kind, Token, tokens

FORBIDDEN_CALLS = frozenset(
    b"arrowstream azureblobstorage azureblobstoragecluster bigquery catboostevaluate cluster clusterallreplicas cosn"
    b" deltalake deltalakeazure deltalakeazurecluster deltalakecluster deltalakelocal deltalakes3 deltalakes3cluster"
    b" disk eval executable executablepool file filecluster filesystem gcs hdfs hdfscluster hudi hudicluster iceberg"
    b" icebergazure icebergazurecluster icebergcluster iceberghdfs iceberghdfscluster iceberglocal iceberglocalcluster"
    b" icebergs3 icebergs3cluster jdbc library mongodb mysql odbc oss paimon paimonazure paimonazurecluster"
    b" paimoncluster paimonhdfs paimonhdfscluster paimonlocal paimons3 paimons3cluster postgresql prometheusquery"
    b" prometheusqueryrange python redis remote remotesecure s3 s3cluster sqlite url urlcluster ytsaurus".split()
)
"""Functions and table functions, in lower case."""

FORBIDDEN_TABLES = frozenset((b"certificates", b"jemalloc_profile_text", b"stack_trace"))
"""Of the database system: they show files or the process's insides, and revoking SELECT does not hide them."""

SUSPICIOUS = (
    *sorted(name for name in FORBIDDEN_CALLS if not any(other in name for other in FORBIDDEN_CALLS - {name})),
    *sorted(FORBIDDEN_TABLES),
    # INFILE and OUTFILE have "file" in them.
    b"engine",
    b"\\",
)
"""Anywhere in the text, in any case: then it is looked at closely. Searching costs some ms per MB."""

ALLOWED_ENGINES = frozenset(
    name.lower().encode() for name in (*config.TABLE_ENGINES, *config.DATABASE_ENGINES, "Dictionary")
)


def check(session: Session, sql: bytes) -> str:
    """Raise QueryError unless the text is one statement that touches nothing but the engine's own folder; returns the
    engine's class of it (see Session.classify). `sql` has no rows of an INSERT behind it."""
    count, query_class = session.classify(sql)
    if count == 0:
        canonical(session, sql)  # raises the parser's own message
        raise QueryError(62, "Syntax error: not a statement of SQL")
    if count > 1:
        raise QueryError(62, "Syntax error (Multi-statements are not allowed)")
    if is_suspicious(sql):
        check_canonical(canonical(session, sql))
    return query_class


def is_suspicious(sql: bytes) -> bool:
    """Must the statement be looked at closely?"""
    lowered = sql.lower()
    return any(word in lowered for word in SUSPICIOUS)


def canonical(session: Session, sql: bytes) -> bytes:
    """The statement as the engine's parser writes it; QueryError (62) when it can't be parsed."""
    text = sql.decode(errors="surrogateescape")
    # Query parameters are unescaped like fields of TSV.
    escaped = (
        text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r").replace("\0", "\\0")
    )
    result = session.query(b"SELECT formatQuerySingleLine({statement:String})", "RawBLOB", {"statement": escaped})
    return result.content()


def check_canonical(sql: bytes) -> None:
    """The same for a statement in canonical form: a call is its name with the parenthesis right behind it."""
    window: list[Token] = []
    for token in tokens(sql):
        window = [*window[-2:], token]
        previous = window[-2] if len(window) > 1 else None
        if previous is None:
            continue
        if token.text == b"(" and token.start == previous.end and _name(previous) in FORBIDDEN_CALLS:
            raise _refused(f"the function {_name(previous).decode()}()")
        if _name(token) in FORBIDDEN_TABLES and (previous.text == b"." or previous.is_word(b"FROM", b"JOIN", b"TABLE")):
            raise _refused(f"the table {_name(token).decode()}")
        if token.kind is Kind.STRING and previous.is_word(b"OUTFILE", b"INFILE"):
            raise _refused(previous.text.decode().upper())
        names_engine = len(window) == 3 and window[0].is_word(b"ENGINE") and previous.text == b"=" and _is_name(token)
        if names_engine and _name(token) not in ALLOWED_ENGINES:
            raise _refused(f"the engine {_name(token).decode(errors='replace')}")


def _is_name(token: Token) -> bool:
    return token.kind in (Kind.WORD, Kind.QUOTED)


def _name(token: Token) -> bytes:
    if token.kind is Kind.QUOTED:
        return token.text[1:-1].lower()
    return token.text.lower() if token.kind is Kind.WORD else b""


def _refused(what: str) -> QueryError:
    return QueryError(
        497, f"{what} is not available on this server: it reads and writes nothing but its own data folder"
    )

"""ClickHouse's engine (chDB) behind an HTTP server that speaks ClickHouse's HTTP protocol.

It runs as a process of its own, on loopback, for the local stack and for tests::

    METERFOLD_CLICKHOUSE_PASSWORD=secret python -m meterfold_local.clickhouse --data DIR --port 8123

    __main__      command line, signals, exit codes, ready signal
    folder        the data folder: one process at a time
    server        the threads and sockets (cheroot)
    app           one request from bytes to bytes: who asks, what is asked
    execute       statement, rows, connection, guard, engine
    auth          user name and password, three ways to send them
    request       URL parameters and headers: query, settings, parameters, session, formats
    body          the request body: counted, so that a short one is an error, and decompressed
    multipart     external tables and form fields
    compression   lz4, zstd, gzip, deflate in both directions
    lexer         ClickHouse's tokens, as far as finding the start of the rows needs them
    statement     what kind of statement it is, where its rows begin, which format it asks for
    guard         what is refused because it would touch the machine
    config        what the engine itself refuses: grants, constraints
    sandbox       what the kernel refuses: Landlock
    engine        connections of the engine: queries, streams, inserts
    sessions      session_id
    respond       status, headers, streamed bodies, errors in mid-stream
    errors        ClickHouse's codes and their HTTP status

Not for production: one process, one user, no TLS. Production is a ClickHouse server by URL.
"""

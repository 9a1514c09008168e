"""ClickHouse's engine (chDB) behind ClickHouse's HTTP protocol: the ClickHouse server of the local stack.

It runs as a process of its own, on loopback::

    METERFOLD_CLICKHOUSE_PASSWORD=secret python -m meterfold_local.clickhouse --data DIR --port 8123

    __main__      command line, signals, exit codes
    folder        the data folder: one process at a time
    server        uvicorn
    app           one request from bytes to bytes (ASGI)
    auth          user name and password
    request       URL parameters and headers as a request
    execute       runs a request: statement, rows, session, result
    statement     where the rows of an INSERT begin, which output format a statement asks for
    engine        connections of the engine
    config        the configuration of the engine, with the grants that keep it in its folder
    sessions      session_id
    respond       status, headers, and errors behind the first rows
    compression   lz4, zstd, gzip, deflate (Content-Encoding)
    blocks        ClickHouse's own compressed blocks (compress=1)
    native        the Native format of newer clients
    errors        ClickHouse's codes and their HTTP status

Not for production: one process, one user, no TLS. Production is a ClickHouse server by URL.
"""

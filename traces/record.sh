#!/bin/sh
# Records the bundled traces. Every input is generated here, by arithmetic alone, so that two runs on the same
# package versions see the same work. Usage:
#
#     traces/record.sh [OUTPUT-DIRECTORY [NAME...]]
#
# The text of a trace (1-4 GB) goes through a FIFO straight into the converter and never touches the disk.
# CONVERT names the command that turns lackey text (its first argument) into a compact trace (its second).
set -eu

for tool in valgrind sqlite3 python3.11 sort gcc awk; do
    command -v "$tool" >/dev/null || { echo "record.sh needs $tool" >&2; exit 2; }
done

here=$(cd "$(dirname "$0")" && pwd)
output=$(mkdir -p "${1:-$here}" && cd "${1:-$here}" && pwd)
[ $# -gt 0 ] && shift
names=${*:-sqlite python sort cc1}
CONVERT=${CONVERT:-cargo run --quiet --release --manifest-path $here/../Cargo.toml -p ntmm-trace --example convert --}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
cd "$work"
mkfifo lackey.fifo

# record NAME COMMAND...: runs COMMAND under lackey in an empty environment, its standard output discarded.
record() {
    name=$1
    shift
    $CONVERT lackey.fifo "$output/$name.ntt" &
    converter=$!
    env -i PATH=/usr/bin:/bin LC_ALL=C PYTHONHASHSEED=0 \
        valgrind --tool=lackey --trace-mem=yes --trace-children=no --log-file=lackey.fifo "$@" </dev/null >/dev/null
    wait "$converter"
}

# A database in memory: bulk insertion, an index, point and range queries, an aggregation, updates and deletions.
make_sqlite() {
    cat >work.sql <<'SQL'
PRAGMA temp_store = MEMORY;
CREATE TABLE item (id INTEGER PRIMARY KEY, key INTEGER, name TEXT, weight REAL, note TEXT);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6500)
INSERT INTO item SELECT i, (i * 2654435761) % 1000003, printf('item-%06d', (i * 7919) % 100000), (i * 37 % 1000) / 8.0,
       substr('the quick brown fox jumps over the lazy dog and then sits down to rest for the afternoon under a tree near the river, thinking of the next jump; a second fox, older and wiser, watches from the other bank, counts the jumps, forgets the number, begins again, and at nightfall goes home without having told anybody what it was all about', 1 + i % 23, 300 + i % 31) FROM n;
COMMIT;
CREATE INDEX item_key ON item (key);
CREATE INDEX item_name ON item (name, weight);
SELECT count(*), sum(weight) FROM item WHERE key BETWEEN 100000 AND 220000;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
SELECT sum(length(note)) FROM n JOIN item ON item.key = (i * 16 * 2654435761) % 1000003;
SELECT substr(name, 1, 7) AS prefix, count(*), avg(weight), max(note) FROM item GROUP BY prefix ORDER BY 2 DESC LIMIT 20;
UPDATE item SET weight = weight + 1, note = note || '!' WHERE key % 29 = 0;
DELETE FROM item WHERE id % 5 = 3;
SELECT a.name, b.name FROM item a JOIN item b ON b.id = a.id + 1000 WHERE a.key < 50000 ORDER BY b.note LIMIT 10;
SQL
}

# Dictionaries, JSON both ways, string building and sorting.
make_python() {
    cat >work.py <<'PY'
import json

state = 12345
def next_number():
    global state
    state = (state * 1103515245 + 12345) & 0x7FFFFFFF
    return state

people = [
    {"id": i, "name": "person-%05d" % (next_number() % 90000), "tags": ["t%d" % (next_number() % 50) for _ in range(4)],
     "score": next_number() % 10000 / 7, "friends": [next_number() % 150 for _ in range(6)]}
    for i in range(150)
]
text = json.dumps(people)
again = json.loads(text)
by_tag = {}
for person in again:
    for tag in person["tags"]:
        by_tag.setdefault(tag, []).append(person)
totals = {tag: sum(p["score"] for p in group) for tag, group in by_tag.items()}
again.sort(key=lambda person: (person["name"], -person["score"]))
reach = {p["id"]: {f for friend in p["friends"] for f in people[friend]["friends"]} for p in people}
print(len(text), len(totals), again[0]["name"], sum(len(r) for r in reach.values()))
PY
}

# Some 2 MB of lines of differing length.
make_sort() {
    awk 'BEGIN { s = 1; for (i = 0; i < 50000; i++) { s = (s * 16807) % 2147483647; t = (s * 48271) % 2147483647;
        printf "%08x %s line %d of the input\n", t, substr("abcdefghijklmnopqrstuvwxyz", 1 + s % 13, 4 + s % 9), i } }' >work.txt
}

# A small translation unit; most of the work is the compiler's own start.
make_cc1() {
    cat >work.c <<'C'
typedef unsigned long word; typedef unsigned char byte;
extern void *allocate(word); extern void fail(const char *, ...);
struct entry0 { struct entry0 *next; word key, value; byte tag[8]; };
struct table0 { struct entry0 *slots[64]; word used; };
struct entry0 *find0(struct table0 *t, word key) { word h = (key * 40503ul) % 64; struct entry0 *e;
  for (e = t->slots[h]; e; e = e->next) if (e->key == key) return e;
  e = allocate(sizeof *e); if (!e) fail("no memory for %lu", key); e->key = key; e->value = 0; e->next = t->slots[h]; t->slots[h] = e; t->used++; return e; }
C
}

for name in $names; do
    "make_$name"
    case $name in
    sqlite) record sqlite sqlite3 -init work.sql :memory: .quit ;;
    python) record python python3.11 -I -S -B work.py ;;
    sort) record sort sort --parallel=1 -S 6M -o sorted.txt work.txt ;;
    cc1) record cc1 "$(gcc -print-prog-name=cc1)" -quiet -O2 -o work.s work.c ;;
    *) echo "no recipe for $name" >&2; exit 2 ;;
    esac
done

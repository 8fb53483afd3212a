#!/bin/sh
# Dump both databases to $BACKUPS/TIME, which appears complete or not at all; remove backups older than $KEEP_DAYS days.
set -eu
made=$BACKUPS/$(date -u +%Y%m%dT%H%M%SZ)
partial=$BACKUPS/.partial
rm -rf "$partial"
mkdir "$partial"
for database in mlflow mlflow_auth; do
    pg_dump --format custom --file "$partial/$database.dump" "$database"
    pg_restore --list "$partial/$database.dump" >/dev/null # fail if the dump cannot be read
done
mv "$partial" "$made"
find "$BACKUPS" -mindepth 1 -maxdepth 1 -type d -name '2*Z' -mtime "+$KEEP_DAYS" -exec rm -rf {} +
echo "$made: $(du -sk "$made" | cut -f1) KiB; $(find "$BACKUPS" -mindepth 1 -maxdepth 1 -type d | wc -l) kept"

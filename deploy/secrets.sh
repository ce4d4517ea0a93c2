#!/bin/sh
# Makes the secrets that docker-compose.yml mounts, once: .waspgate/secrets/. What is there already stays as it is.
#
# The law: nobody else on this machine gets at them, because of the folder's mode; the files themselves can be read by whatever
# user a container runs as.
set -eu
cd "$(dirname "$0")/.."
mkdir -p .waspgate/secrets
chmod 0700 .waspgate/secrets
for name in admin_key encryption_keys grafana_password; do
  file=.waspgate/secrets/$name
  if [ ! -s "$file" ]; then
    (umask 077 && head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \n' > "$file.new" && echo >> "$file.new")
    chmod 0444 "$file.new"
    mv "$file.new" "$file"
    echo "made $file"
  fi
done

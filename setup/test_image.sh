#!/usr/bin/env bash
# Make the image of the pods that tests run in a cluster whose node is this machine: nothing but a user and places for
# mounts, as the programs come from the machine itself by hostPath.
#
#   setup/test_image.sh MKIMAGE OUT.tar
#
# MKIMAGE makes an archive of a directory: MKIMAGE NAME:TAG DIRECTORY OUT.tar -- COMMAND...
set -euo pipefail

mkimage=$1 out=$2
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

mkdir -p "$root"/{etc,home/farandole,root,usr,tmp,run,var,proc,sys,dev,work}
for link in bin lib lib32 lib64 libx32 sbin; do ln -s "usr/$link" "$root/$link"; done
printf 'root:x:0:0:root:/root:/bin/sh\nfarandole:x:1000:1000::/home/farandole:/bin/bash\n' >"$root/etc/passwd"
printf 'root:x:0:\nfarandole:x:1000:\n' >"$root/etc/group"
printf 'passwd: files\ngroup: files\nhosts: files dns\n' >"$root/etc/nsswitch.conf"
chmod 1777 "$root/tmp"
chown -R 1000:1000 "$root/home/farandole"
python3 "$mkimage" docker.io/lab/machine:1 "$root" "$out" -- /bin/sh

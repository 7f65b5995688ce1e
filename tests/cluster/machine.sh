#!/bin/sh
# The first process of a machine that is a container: what a machine of its own finds at its start, then systemd.
set -e
for each in /sys /sys/fs/cgroup /sys/fs/cgroup/*; do
    ! mountpoint -q "$each" || [ -L "$each" ] || mount -o remount,bind,rw "$each"
done
mount --make-rshared /
# a file of its own, as machines have, instead of Docker's mount
if mountpoint -q /etc/resolv.conf; then
    found=$(cat /etc/resolv.conf)
    umount /etc/resolv.conf
    [ -L /etc/resolv.conf ] || echo "$found" >/etc/resolv.conf
fi
exec /sbin/init

#!/bin/sh
# systemd's user instance with units of one's own, out of sight of the system's.
#
# usage: unshare --mount --pid --mount-proc --fork --kill-child sh systemd.sh UNITS PROGRAM
#
# UNITS is a folder, and PROGRAM is copied to /run, where units find it. Prints "up" when the
# manager runs. Each line on stdin is arguments of systemctl; what that prints is followed by a
# line "status" with its exit status. At the end of stdin all units are stopped.
set -eu

mount -t tmpfs -o mode=755 none /run
# Without this folder it says that the machine has another manager.
mkdir -p /run/systemd/system /run/own
export XDG_RUNTIME_DIR=/run/own SYSTEMD_UNIT_PATH="$1:" SYSTEMD_LOG_TARGET=console
cp "$2" /run/
# Units that run as somebody else have to reach its socket, as they reach the system's.
umask 0
/lib/systemd/systemd --user --unit=basic.target </dev/null >&2 &
manager=$!

for _ in $(seq 100); do
    if systemctl --user --quiet is-active basic.target 2>/dev/null; then
        echo up
        while read -r arguments; do
            status=0
            # They are words without spaces.
            # shellcheck disable=SC2086
            systemctl --user $arguments 2>&1 || status=$?
            echo "status $status"
        done
        kill "$manager"
        wait "$manager" || true
        exit 0
    fi
    sleep 0.1
done
exit 1

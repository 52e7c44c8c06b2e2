#!/bin/bash
# tests/by_hand/empty_root.sh PROGRAM: a static build on an empty root that cannot be written to, as nobody, with
# /data alone: in a chroot, and in a container of podman where that is installed. Needs root. Such a
# build, as the printed Dockerfile makes it:
#   export RUSTFLAGS='-C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom"'
#   cargo build --release --target "$(rustc --print host-tuple)"
set -euo pipefail
program=$(realpath "$1")
if ldd "$program" >/dev/null 2>&1 && ! ldd "$program" | grep -q 'statically linked'; then
  echo "$program is not static" >&2
  exit 1
fi
work=$(mktemp -d)
pid=
finish() {
  if [ -n "$pid" ]; then kill "$pid" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap finish EXIT
export STREAM_PORT=23512 WORKER_PORT=23534
config=$work/config.yaml
"$program" print config | sed 's/# admin: .*/admin: off/' > "$config"

# What a stranger does, against a server that runs; and that nothing but /data can be written.
use() { # NAME
  for _ in $(seq 100); do
    if "$program" health -c "$config" 2>/dev/null; then break; fi
    sleep 0.1
  done
  "$program" call -c "$config" stream::set '{"stream_name":"s","group_id":"g","item_id":"i","data":1}' >/dev/null &&
    "$program" watch -c "$config" s g --count 1 2>/dev/null | grep -q 'sync   \[1\]' &&
    echo "ok: $1: health, set, sync"
}

# A mount namespace of its own goes with the process: nothing is left mounted.
cat > "$work/inside.sh" <<'INSIDE'
set -e
mount --make-rprivate /
mkdir -p "$1/root"
mount -t tmpfs none "$1/root"
mkdir -p "$1/root/data" "$1/root/etc"
cp "$2" "$1/root/iii-stream"
cp "$1/config.yaml" "$1/root/etc/config.yaml"
mount -t tmpfs -o uid=65534,gid=65534,mode=0750 none "$1/root/data"
mount -o remount,bind,ro "$1/root"
if touch "$1/root/x" 2>/dev/null; then echo 'the root can be written'; exit 1; fi
exec chroot --userspec=65534:65534 "$1/root" /iii-stream --config /etc/config.yaml
INSIDE
sed -i 's|\./data/stream_store|/data/stream_store|' "$config"
unshare -m bash "$work/inside.sh" "$work" "$program" > "$work/log" 2>&1 &
pid=$!
use 'chroot' || { cat "$work/log"; exit 1; }
[ "$(stat -c %u "/proc/$pid")" = 65534 ] && echo 'ok: chroot: runs as nobody'
ls "/proc/$pid/root/data/stream_store" | grep -q log && echo 'ok: chroot: /data holds the values'
kill "$pid"
wait "$pid" && echo 'ok: chroot: ends with 0 on SIGTERM'
pid=

if ! command -v podman >/dev/null; then
  echo 'left out: podman is not installed'
  exit 0
fi
mkdir -p "$work/image/data"
cp "$program" "$config" "$work/image/"
cat > "$work/image/Dockerfile" <<'IMAGE'
FROM scratch
COPY iii-stream /usr/bin/iii-stream
COPY config.yaml /etc/iii-stream/config.yaml
COPY --chown=65532:65532 data /data
USER 65532:65532
WORKDIR /data
VOLUME ["/data"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/iii-stream"]
CMD ["--config", "/etc/iii-stream/config.yaml"]
IMAGE
mv "$work/image/$(basename "$program")" "$work/image/iii-stream" 2>/dev/null || true
# Where control groups are of both versions crun refuses: podman then sees none of them.
cat > "$work/container.sh" <<'CONTAINER'
set -e
mount --make-rprivate /
umount -R /sys/fs/cgroup
mount -t tmpfs none /sys/fs/cgroup
podman build --quiet --tag iii-stream-try "$1/image" >/dev/null
exec podman run --rm --name iii-stream-try --read-only --cap-drop ALL --network host --cgroups disabled \
  --ulimit nofile=4096:4096 --ulimit nproc=1000:1000 -e STREAM_PORT -e WORKER_PORT iii-stream-try
CONTAINER
unshare -m bash "$work/container.sh" "$work" > "$work/log" 2>&1 &
pid=$!
use 'podman' || { cat "$work/log"; exit 1; }
server=$(podman inspect --format '{{.State.Pid}}' iii-stream-try)
[ "$(stat -c %u "/proc/$server")" = 65532 ] && echo 'ok: podman: runs as 65532'
kill "$server"
wait "$pid" && echo 'ok: podman: ends with 0 on SIGTERM'
pid=
podman image rm --force iii-stream-try >/dev/null

#!/bin/bash
# Makes the machine that tests/lab boots: Debian's kernel with its DRBD module, and a small root file system with the DRBD
# command-line tools. All of it comes from Debian packages through the mirror that apt on this host uses; the lists and
# packages are kept apart from the host's own apt. Prints the directory of the image; fast when it is there already.
#
# Environment: DRBDBOX_LAB_CACHE=where it is kept (~/.cache/drbdbox-lab, about 450 MB). DRBDBOX_LAB_SUITE=trixie.
# DRBDBOX_LAB_MIRROR=URI of a Debian mirror. Exit status 77: it cannot be made here; stderr says why.

set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${DRBDBOX_LAB_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/drbdbox-lab}
SUITE=${DRBDBOX_LAB_SUITE:-trixie}
PATH=$PATH:/usr/sbin:/sbin
APT=$CACHE/apt-$SUITE
PROGRAMS=(busybox-static dash coreutils util-linux kmod iproute2 drbd-utils fio e2fsprogs xfsprogs psmisc)
FIRST_MODULES="virtio_pci virtio_blk crc32c_generic ext4 overlay 9p 9pnet_virtio"
MODULES="$FIRST_MODULES virtio_net virtio_rng crc32c_intel sha1_generic sha1_ssse3 sha1 md5 hmac drbd dm_mod sch_tbf nbd loop fuse xfs"

impossible() {
	echo "the lab cannot be made: $*" >&2
	exit 77
}
trap 'echo "tests/lab/setup.sh: failed in line $LINENO; logs are in $APT" >&2' ERR

mkdir -p "$CACHE"
exec 9>"$CACHE/lock"
flock 9
# An image for each version of what makes it: machines of another checkout may be running from theirs.
WHOLE=$CACHE/$SUITE-$(cat "${BASH_SOURCE[0]}" "$HERE/guest/init" | sha256sum | cut -c 1-16)
if [ -e "$WHOLE" ]; then
	touch "$WHOLE"
	echo "$WHOLE"
	exit 0
fi

[ "$(id -u)" -eq 0 ] || impossible "not root"
[ "$(uname -m)" = x86_64 ] || impossible "the machine is for x86_64, this host is $(uname -m)"
for pair in apt-get:apt dpkg-deb:dpkg mke2fs:e2fsprogs depmod:kmod cpio:cpio xz:xz-utils zstd:zstd; do
	type -P "${pair%:*}" >/dev/null || impossible "no ${pair%:*} (Debian package ${pair#*:})"
done

# Lists of the suite, from the mirror of the host.
mirror=${DRBDBOX_LAB_MIRROR:-$(apt-get indextargets --format '$(CREATED_BY)|$(COMPONENT)|$(REPO_URI)' 2>/dev/null |
	awk -F'|' '$1 == "Packages" && $2 == "main" && $3 ~ /\/debian\/?$/ { print $3; exit }')}
[ -n "$mirror" ] || mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -v '^ *#' |
	grep -oE '[a-z+]+://[^ ]*/debian/?( |$)' | head -n 1 | tr -d ' ' || true)
[ -n "$mirror" ] || impossible "apt knows no Debian mirror: set DRBDBOX_LAB_MIRROR"
mkdir -p "$APT/lists/partial" "$APT/cache/archives/partial"
: >"$APT/status"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
signed=
[ ! -e $keyring ] || signed="[signed-by=$keyring] "
echo "deb $signed$mirror $SUITE main" >"$APT/sources.list"
apt() {
	local program=$1
	shift
	"$program" -q -o Dir::Etc::SourceList="$APT/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null -o Dir::State="$APT" \
		-o Dir::State::Lists="$APT/lists" -o Dir::State::status="$APT/status" -o Dir::Cache="$APT/cache" \
		-o Acquire::Languages=none -o APT::Architecture=amd64 -o APT::Architectures=amd64 -o APT::Sandbox::User=root \
		-o APT::Install-Recommends=false -o Acquire::Retries=3 "$@"
}
apt apt-get update >"$APT/update.log" 2>&1 || impossible "no package lists of $SUITE: $(tail -n 1 "$APT/update.log")"

# Packages: the programs with all they need, and the kernel without its maintainer scripts' needs.
kernel=$(apt apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[^ <]*\)$/\1/p' | head -n 1)
[ -n "$kernel" ] || impossible "no kernel package in $SUITE"
kernel_packages=$(apt apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
	--no-enhances "$kernel" | grep -E '^linux-(image|modules|binary|base)-[0-9]' | sort -u)
# Made aside: what has its name is whole. Images that nobody wanted for two days go.
find "$CACHE" -mindepth 1 -maxdepth 1 -name "$SUITE*" -mtime +1 -exec rm -rf {} +
IMAGE=$WHOLE.unfinished
rm -rf "$IMAGE"
BUILD=$IMAGE/build
mkdir -p "$BUILD/kernel" "$BUILD/debs"
# shellcheck disable=SC2086
(cd "$BUILD/debs" && apt apt-get download $kernel_packages) >"$APT/fetch.log" 2>&1 ||
	impossible "the kernel's packages cannot be fetched: $(tail -n 1 "$APT/fetch.log")"
for package in "$BUILD"/debs/*.deb; do
	dpkg-deb -x "$package" "$BUILD/kernel"
done
apt apt-get install --download-only -y "${PROGRAMS[@]}" >>"$APT/fetch.log" 2>&1 ||
	impossible "packages cannot be fetched: $(tail -n 1 "$APT/fetch.log")"

# The root file system.
ROOT=$BUILD/root
mkdir -p "$ROOT"/usr/{bin,sbin,lib,lib64} "$ROOT"/{etc,dev,proc,sys,run,tmp,root,share,var/lib/drbd,var/lock}
for directory in bin sbin lib lib64; do
	ln -s usr/$directory "$ROOT/$directory"
done
for package in "$APT"/cache/archives/*.deb; do
	dpkg-deb --fsys-tarfile "$package" | tar -x -C "$ROOT" --keep-directory-symlink --no-same-owner --exclude='./usr/share/doc' \
		--exclude='./usr/share/man' --exclude='./usr/share/locale' --exclude='./usr/share/perl*' \
		--exclude='./usr/lib/*/perl*' --exclude='./usr/lib/python3*' --exclude='./usr/lib/*/gconv' \
		--exclude='./usr/share/zoneinfo' --exclude='./usr/lib/udev' --exclude='./usr/lib/systemd'
done
while read -r name; do
	[ -e "$ROOT/usr/bin/$name" ] || [ -e "$ROOT/usr/sbin/$name" ] || ln -sf busybox "$ROOT/usr/bin/$name"
done < <("$ROOT/usr/bin/busybox" --list)
ln -sf dash "$ROOT/usr/bin/sh"
echo 'root:x:0:0:root:/root:/bin/sh' >"$ROOT/etc/passwd"
echo 'root:x:0:' >"$ROOT/etc/group"
echo '127.0.0.1 localhost' >"$ROOT/etc/hosts"
chroot "$ROOT" /sbin/ldconfig 2>/dev/null || true

# Modules, uncompressed, and the kernel, unpacked: it starts faster so.
K=$BUILD/kernel
if [ -d "$K/lib/modules" ] && [ ! -L "$K/lib" ]; then
	mkdir -p "$K/usr/lib"
	mv "$K/lib/modules" "$K/usr/lib/"
	rm -r "$K/lib"
fi
ln -sfn usr/lib "$K/lib"
version=$(ls "$K/usr/lib/modules")
depmod -b "$K" "$version"
files_of() { modprobe -d "$1" -S "$version" --show-depends "$2" 2>/dev/null | sed -n 's/^insmod \([^ ]*\).*/\1/p' || true; }
for module in $MODULES; do
	for file in $(files_of "$K" "$module"); do
		path=usr/lib/modules/${file##*/lib/modules/}
		to=${path%.xz}
		to=$ROOT/${to%.zst}
		mkdir -p "${to%/*}"
		case $path in
		*.xz) xz -dc "$K/$path" >"$to" ;;
		*.zst) zstd -qdc "$K/$path" >"$to" ;;
		*) cp "$K/$path" "$to" ;;
		esac
	done
done
cp "$K/usr/lib/modules/$version"/modules.{order,builtin,builtin.modinfo} "$ROOT/usr/lib/modules/$version/"
depmod -b "$ROOT" "$version"
packed=$(find "$K/boot" "$K/usr/lib/modules/$version" -name 'vmlinuz*' | head -n 1)
number() { od -An -t "u$3" -j "$2" -N "$3" "$1" | tr -d ' '; }
from=$((($(number "$packed" 497 1) + 1) * 512 + $(number "$packed" 584 4)))
length=$(number "$packed" 588 4)
payload() { tail -c +$((from + 1)) "$packed" | head -c "$1" || true; }
case $(payload 4 | od -An -t x1 | tr -d ' ') in
fd377a58) payload "$length" | xz -dc --single-stream >"$IMAGE/vmlinux" ;;
28b52ffd) payload $((length - 4)) | zstd -qdc >"$IMAGE/vmlinux" ;;
*) cp "$packed" "$IMAGE/vmlinux" ;;
esac

# What runs first: just enough to find the root file system and the shared directory.
FIRST=$BUILD/first
mkdir -p "$FIRST"/{bin,modules,proc,sys,dev,lower,upper,new}
cp "$ROOT/usr/bin/busybox" "$FIRST/bin/"
count=100
for module in $FIRST_MODULES; do
	for file in $(files_of "$ROOT" "$module"); do
		compgen -G "$FIRST/modules/*-${file##*/}" >/dev/null || cp "$file" "$FIRST/modules/$count-${file##*/}"
		count=$((count + 1))
	done
done
install -m 0755 "$HERE/guest/init" "$FIRST/init"
(cd "$FIRST" && find . | sort | cpio --quiet -o -H newc -R 0:0) >"$IMAGE/first.cpio"
mke2fs -q -t ext4 -O '^has_journal' -m 0 -E root_owner=0:0 -d "$ROOT" "$IMAGE/root.ext4" \
	$(($(du -sm --apparent-size "$ROOT" | cut -f 1) * 12 / 10 + 24))M >/dev/null
rm -rf "$BUILD"
mv "$IMAGE" "$WHOLE"
echo "$WHOLE"

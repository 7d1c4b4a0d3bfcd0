#!/bin/sh
# build.sh DIRECTORY [VERSION]: the packages of the binary that is built, into DIRECTORY.
# Environment: BINARY=the static binary (target/release/drbdbox); the packages are for its architecture, x86_64 or i686.

set -e
[ $# -ge 1 ] || { echo "Usage: build.sh DIRECTORY [VERSION]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
mkdir -p "$1"
directory=$(cd "$1" && pwd)
version=${2:-$(sed -n 's/^version = "\(.*\)"/\1/p' "$top/Cargo.toml" | head -n 1)}
binary=${BINARY:-target/release/drbdbox}
if (cd "$top" && grep -q 'The futex facility returned an unexpected error code' "$binary"); then
	echo "warning: $binary has the GNU C library in it, not musl: it does not run on RHEL5" >&2
fi
# A 32-bit binary (EI_CLASS) makes packages for hosts with such a kernel.
case $(cd "$top" && od -An -tu1 -j4 -N1 "$binary") in
*1) target=i686 ;;
*) target=$(uname -m) ;;
esac
type rpmbuild >/dev/null 2>&1 || { echo "missing: rpmbuild (Debian package rpm, Red Hat rpm-build)" >&2; exit 77; }
exec rpmbuild -bb --quiet --target "$target" --define "top $top" --define "binary $binary" \
	--define "release_version $version" --define "_rpmdir $directory" --define "_topdir $directory/build" \
	--define '_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm' "$here/drbdbox.spec"

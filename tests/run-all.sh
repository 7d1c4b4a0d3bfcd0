#!/bin/bash
# make test: every check that this machine can run, and at the end what was left out and why. Installs nothing.
# Exit status 0: everything that ran held.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
CARGO=${CARGO:-cargo}
type -P "$CARGO" >/dev/null || CARGO=$HOME/.cargo/bin/cargo
# The programs under test are those that make built; the directories of a configured build are not those of the tests.
export DRBDBOX=${DRBDBOX:-$PWD/target/release/drbdbox}
export HOST_PROGRAMS=${HOST_PROGRAMS:-$PWD/target/release/examples}
unset DRBDBOX_SYSCONFDIR DRBDBOX_LOCALSTATEDIR DRBDBOX_COMMIT DRBDBOX_COMMIT_TIME MAKEFLAGS MFLAGS MAKELEVEL

failed=()
skipped=()
begin() { printf '\n=== %s\n' "$*"; }

begin "formatting"
if "$CARGO" fmt --version >/dev/null 2>&1; then
	"$CARGO" fmt --all --check || failed+=("cargo fmt --check")
else
	skipped+=("formatting: cargo fmt is not installed (rustup component add rustfmt)")
fi

begin "clippy"
if "$CARGO" clippy --version >/dev/null 2>&1; then
	"$CARGO" clippy --quiet --all-targets -- -D warnings || failed+=("cargo clippy")
	"$CARGO" clippy --quiet --lib --test sim --features mutants -- -D warnings || failed+=("cargo clippy, mutants")
else
	skipped+=("lints: cargo clippy is not installed (rustup component add clippy)")
fi

begin "shell scripts"
posix="configure packaging/init.d/drbd packaging/heartbeat/drbddisk packaging/heartbeat/drbdupper packaging/rpm/build.sh
	packaging/handlers/start-daemon packaging/handlers/stop-daemon"
in_bash="packaging/handlers/*.sh packaging/handlers/state.bash packaging/handlers/rhcs_fence packaging/systemd/*.sh packaging/pacemaker/drbd packaging/rgmanager/drbd.sh packaging/musl/build.sh"
for shell in dash bash busybox; do
	command=$shell
	[ $shell != busybox ] || command="busybox sh"
	if ! type -P $shell >/dev/null; then
		[ $shell = bash ] || skipped+=("scripts under $shell: $shell is not installed")
		continue
	fi
	for script in $posix; do
		$command -n "$script" || failed+=("$shell -n $script")
	done
done
for script in $in_bash tests/*.sh tests/hosts/*.sh tests/lab/*.sh tests/lab/scenarios/*.sh packaging/bash-completion/drbdadm .ci/run; do
	bash -n "$script" || failed+=("bash -n $script")
done
if type -P shellcheck >/dev/null; then
	shellcheck -S error $posix $in_bash tests/*.sh tests/hosts/*.sh tests/lab/*.sh .ci/run &&
		shellcheck -S error -s bash tests/lab/scenarios/*.sh || failed+=("shellcheck")
else
	skipped+=("shellcheck: not installed (Debian package shellcheck)")
fi

begin "configure and make install"
tests/install.sh || failed+=("tests/install.sh")

begin "packages"
why=$(tests/rpm.sh)
case $? in
0) echo "$why" ;;
77) skipped+=("packages: $why") ;;
*) failed+=("tests/rpm.sh") ;;
esac

begin "handlers"
tests/handlers.sh || failed+=("tests/handlers.sh")

begin "agents of cluster managers"
why=$(tests/agents.sh)
case $? in
0) echo "$why" ;;
77) skipped+=("agents of cluster managers: $why") ;;
*) failed+=("tests/agents.sh") ;;
esac

begin "cargo test"
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
"$CARGO" test --no-fail-fast -- --show-output 2>&1 | tee "$log" | awk '
	# What tests that passed have printed is not shown, but for what they left out.
	/^successes:$/ { hidden = 1 }
	/^(failures:|test result:)/ { hidden = 0 }
	!hidden || /^SKIPPED: /'
[ "${PIPESTATUS[0]}" -eq 0 ] || failed+=("cargo test")
while IFS= read -r line; do
	skipped+=("$line")
done < <(sed -n 's/^SKIPPED: //p' "$log" | sort -u)

begin "the simulation"
make --no-print-directory sim CARGO="$CARGO" SEEDS="${SIM_SEEDS:-2000}" || failed+=("make sim")

begin "summary"
awk '/^test result:/ { passed += $4; failed += $6; ignored += $8 }
	END { printf "cargo test: %d passed, %d failed, %d ignored\n", passed, failed, ignored }' "$log"
for line in "${skipped[@]}"; do
	echo "left out: $line"
done
[ ${#skipped[@]} -gt 0 ] || echo "nothing was left out"
for line in "${failed[@]}"; do
	echo "FAILED: $line"
done
[ ${#failed[@]} -eq 0 ]

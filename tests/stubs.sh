# shellcheck shell=bash
# What the tests of handlers and agents share: programs that play others, in the directory $work.

# stub NAME: makes bin/NAME, which notes its words in the file calls, and then does what stdin says.
stub() {
	{
		printf '#!/bin/bash\ncd %q\n' "$work"
		printf 'line="%s"; for word; do line+=" $word"; done; echo "$line" >>calls\n' "$1"
		cat
	} >"bin/$1"
	chmod +x "bin/$1"
}

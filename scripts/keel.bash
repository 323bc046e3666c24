# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# Completion of keel's command line for bash; its own help says what there is.

_keel_names() {
	local dir=${XDG_RUNTIME_DIR:+$XDG_RUNTIME_DIR/keel} path
	for path in "${dir:-/tmp/keel-$UID}"/guest-*; do
		[ -S "$path" ] && echo "${path##*/guest-}"
	done
}

_keel() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} words=
	COMPREPLY=()
	if [ "$COMP_CWORD" = 1 ]; then
		words=$(keel --help | sed -n 's/^  \([a-z]*\) .*/\1/p')
	elif [ "${COMP_WORDS[1]}" = ctl ]; then
		case $COMP_CWORD in
		2) words=$(_keel_names) ;;
		3) words=$(keel ctl --help | sed -n 's/^  \([a-z]*\) .*/\1/p') ;;
		*) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
		esac
	else
		case $before in
		--kernel | --initrd | --device | -k | -i | -d | --disk)
			mapfile -t COMPREPLY < <(compgen -f -- "$word")
			return ;;
		--share)
			mapfile -t COMPREPLY < <(compgen -d -- "$word")
			return ;;
		--net) words="user tap switch=" ;;
		--console) words="serial virtio" ;;
		*) words=$(keel "${COMP_WORDS[1]}" --help 2>/dev/null | grep -o -e '--[a-z-]*') ;;
		esac
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -F _keel keel

package cmdline

// scripts returns the completion script by shell. They pass the typed words on
// as arguments and never evaluate them.
func scripts() map[string]string {
	return map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}
}

// bash breaks words at "=" and ":" too; the script reads the line itself and
// cuts from the answers what bash has already taken as finished.
const bashScript = `# bash completion of qlbaas
_qlbaas() {
    local line=${COMP_LINE:0:COMP_POINT} words cur word
    read -r -a words <<< "$line"
    [[ -z $line || $line == *[[:space:]] ]] && words+=("")
    cur=${words[-1]}
    local kept=${cur%"${cur##*[=:]}"}
    COMPREPLY=()
    while IFS= read -r word; do
        COMPREPLY+=("${word#"$kept"}")
    done < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
}
complete -o default -F _qlbaas qlbaas
`

const zshScript = `#compdef qlbaas
_qlbaas() {
    local -a candidates
    candidates=("${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    candidates=(${candidates:#})
    (( ${#candidates} )) && compadd -- "${candidates[@]}"
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _qlbaas qlbaas
`

const fishScript = `# fish completion of qlbaas
function __qlbaas_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    $words[1] __complete $words[2..-1] "$current" 2>/dev/null
end
complete -c qlbaas -f -a '(__qlbaas_complete)'
`

# What the steps share; read by each with `source`. The working directory is the repository.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${CARGO_TARGET_DIR:-target}

fail() {
    echo "error: $*" >&2
    exit 1
}

# Ends the step because something that it needs is not there: as a failure, or as an announced
# skip where SWARD_CI_ALLOW_MISSING names the step.
missing() {
    local name
    name=$(basename "$0")
    case " ${SWARD_CI_ALLOW_MISSING//,/ } " in
        *" $name "* | *" ${name#*-} "*)
            echo "SKIPPED $name: $*"
            exit 77
            ;;
    esac
    fail "cannot run: $* (to go on without: SWARD_CI_ALLOW_MISSING=${name#*-})"
}

# Prints the command in the fenced block behind the line `<!-- ci: NAME -->` of README.md, which
# must be a single line, so that the page and the check cannot drift apart.
readme_command() {
    local command
    command=$(awk -v mark="<!-- ci: $1 -->" '
        $0 == mark { marked = 1; next }
        marked && /^```/ { if (inside) exit; inside = 1; next }
        marked && inside { print }' README.md)
    [[ -n $command ]] || fail "README.md has no command marked '<!-- ci: $1 -->'"
    [[ $command != *$'\n'* ]] || fail "the command marked '$1' in README.md is not one line"
    echo "$command"
}

# Runs a command that runs tests, and fails where it ran none.
run_tests() {
    local log=$target/ci/tests-$$.txt status=0
    mkdir -p "$target/ci"
    echo "+ $*"
    "$@" 2>&1 | tee "$log" || status=$?
    if [[ $status -eq 0 ]] && ! grep -qE '^test result: ok\. [1-9]' "$log"; then
        rm -f "$log"
        fail "no test ran: $*"
    fi
    rm -f "$log"
    return $status
}

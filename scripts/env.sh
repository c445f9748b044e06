# Sourced by the scripts beside it. It moves to the repository's root and gives
#   need_env NAME LOCK   makes the virtual environment NAME from the file LOCK unless it is there already
#   need_main, need_sa20 the two environments of the tests: SQLAlchemy 2.1 in .venv, 2.0 in .venv-sa20
#   need_both            both of them, side by side, and what compiles the library's part in C
#   need_servers         the binaries of Redis, memcached, PostgreSQL and MariaDB, where neither Docker nor a URL stands in for them
# PYTHON names the interpreter (3.10 or later) that environments are made with; python3 where unset.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
PYTHON=${PYTHON:-python3}

die() {
    printf '%s\n' "$@" >&2
    exit 2
}

is_root() {
    [ "$(id -u)" -eq 0 ]
}

can_apt() {
    is_root && command -v apt-get >/dev/null
}

# A network fails for a moment now and then.
again() {
    "$@" || { sleep 5 && "$@"; } || { sleep 20 && "$@"; }
}

apt_fetch() {
    local patient=(-o Acquire::Retries=5 -o DPkg::Lock::Timeout=300)
    apt-get "${patient[@]}" update -q && DEBIAN_FRONTEND=noninteractive apt-get "${patient[@]}" install -y -q --no-install-recommends "$@"
}

# A freshly installed server must not start, now or at the next boot: the tests start their own on free ports.
apt_install() {
    local policy=/usr/sbin/policy-rc.d made=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && made=$policy
    fi
    local status=0
    again apt_fetch "$@" >&2 || status=$?
    [ -z "$made" ] || rm -f "$made"
    return "$status"
}

need_python() {
    command -v "$PYTHON" >/dev/null || { can_apt && apt_install python3 python3-venv; } || die "Python 3.10 or later is needed: set PYTHON to it."
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || die "$("$PYTHON" --version) is too old: set PYTHON to a Python of 3.10 or later."
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null && return
    local package
    package=$("$PYTHON" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    can_apt || die "This Python cannot make environments. Run: sudo apt-get install -y $package"
    apt_install "$package" || die "apt-get could not install $package."
}

# What an environment was made from, and what the library was installed from into it: a changed setting of a
# tool in pyproject.toml is no reason to make all of it again.
env_stamp() {
    cksum <"$1"
    pwd
    "$PYTHON" -c 'import sys; print(sys.version, sys.base_prefix)' 2>/dev/null
}

library_stamp() {
    cat pyproject.toml hatch_build.py stockstore/native/*.[ch] | cksum
}

make_env() {
    local name=$1 lock=$2 base
    need_python
    echo "Making $name from $lock ..." >&2
    # An activated environment may be the very one that is removed here.
    base=$("$PYTHON" -c 'import sys; print(getattr(sys, "_base_executable", sys.executable))')
    rm -rf "$name" &&
        "$base" -m venv "$name" &&
        pip_install "$name" --require-hashes --requirement "$lock" &&
        env_stamp "$lock" >"$name/env.stamp"
}

install_library() {
    pip_install "$1" --no-deps --no-build-isolation --editable . && library_stamp >"$1/library.stamp"
}

pip_install() {
    local name=$1
    shift
    again "$name/bin/python" -m pip install --quiet --disable-pip-version-check --retries 10 --timeout 60 "$@"
}

# A lock keeps two scripts that run side by side from making the same environment.
need_env() {
    local name=$1 lock=$2
    (
        if command -v flock >/dev/null; then flock 9; fi
        [ "$(cat "$name/env.stamp" 2>/dev/null)" = "$(env_stamp "$lock")" ] || make_env "$name" "$lock" || exit 1
        [ "$(cat "$name/library.stamp" 2>/dev/null)" = "$(library_stamp)" ] || install_library "$name"
    ) 9>"$name.lock" || die "The environment $name could not be made."
}

need_main() {
    need_env .venv requirements/sa21.txt
}

need_sa20() {
    need_env .venv-sa20 requirements/sa20.txt
}

has_headers() {
    "$PYTHON" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'
}

need_compiler() {
    need_python
    local missing=()
    command -v cc >/dev/null || missing+=(gcc libc6-dev)
    has_headers || missing+=("$("$PYTHON" -c 'import sys; print("python%d.%d-dev" % sys.version_info[:2])')")
    [ ${#missing[@]} -gt 0 ] || return 0
    can_apt || die "The tests need a C compiler. Run: sudo apt-get install -y ${missing[*]}"
    apt_install "${missing[@]}" || die "apt-get could not install ${missing[*]}."
}

need_both() {
    local main
    need_compiler
    need_main &
    main=$!
    need_sa20
    wait "$main"
}

docker_answers() {
    command -v docker >/dev/null && timeout 10 docker info >/dev/null 2>&1
}

has_postgres() {
    command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null
}

# The tests of failures stop and freeze servers of their own, so a URL stands in for the databases only.
need_servers() {
    docker_answers && return
    local missing=()
    command -v redis-server >/dev/null || missing+=(redis-server)
    command -v memcached >/dev/null || missing+=(memcached)
    [ -n "${STOCKSTORE_TEST_POSTGRES_URL:-}" ] || has_postgres || missing+=(postgresql)
    [ -n "${STOCKSTORE_TEST_MARIADB_URL:-}" ] || command -v mariadbd >/dev/null || [ -x /usr/sbin/mariadbd ] || missing+=(mariadb-server)
    [ ${#missing[@]} -gt 0 ] || return 0
    can_apt || die "The tests need ${missing[*]} or a running Docker. Run: sudo apt-get install -y ${missing[*]}"
    apt_install "${missing[@]}" || die "apt-get could not install ${missing[*]}."
    if command -v systemctl >/dev/null; then systemctl disable "${missing[@]}" >/dev/null 2>&1 || true; fi
}

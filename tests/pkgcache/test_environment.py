from __future__ import annotations

from pkgcache.environment import ENVIRONMENT, PREFIX


def test_what_npm_installs_globally_is_found_by_require() -> None:
    assert ENVIRONMENT["NODE_PATH"] == f"{ENVIRONMENT['npm_config_prefix']}/lib/node_modules"
    assert ENVIRONMENT["npm_config_prefix"] == PREFIX


def test_pip_may_install_into_the_systems_interpreter() -> None:
    assert ENVIRONMENT["PIP_BREAK_SYSTEM_PACKAGES"] == "1"


def test_go_looks_for_modules_where_layers_keep_them() -> None:
    assert ENVIRONMENT["GOMODCACHE"].startswith(f"{PREFIX}/")


def test_cargo_lists_what_its_layer_installed() -> None:
    assert ENVIRONMENT["CARGO_INSTALL_ROOT"] == PREFIX

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pkgcache.keys import chain, digest, layer_key

specs = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=5)


def test_a_digest_is_sha256_in_hex() -> None:
    assert len(digest(["a"])) == 64
    assert set(digest(["a"])) <= set("0123456789abcdef")


@given(st.lists(st.text(max_size=5), max_size=5), st.lists(st.text(max_size=5), max_size=5))
def test_no_two_lists_of_fields_have_one_digest(one: list[str], other: list[str]) -> None:
    assert (digest(one) == digest(other)) == (one == other)


@given(specs, st.randoms())
def test_order_and_repetition_make_no_new_key(names: list[str], random: object) -> None:
    shuffled = names + names[:1]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert layer_key("p", "b", "pip", names, "x") == layer_key("p", "b", "pip", shuffled, "x")


def test_every_input_counts() -> None:
    reference = layer_key("parent", "base", "pip", ["a"], "linux/x86_64")
    others = {
        layer_key("other", "base", "pip", ["a"], "linux/x86_64"),
        layer_key("parent", "other", "pip", ["a"], "linux/x86_64"),
        layer_key("parent", "base", "npm", ["a"], "linux/x86_64"),
        layer_key("parent", "base", "pip", ["b"], "linux/x86_64"),
        layer_key("parent", "base", "pip", ["a", "b"], "linux/x86_64"),
        layer_key("parent", "base", "pip", ["a"], "linux/aarch64"),
    }
    assert len(others) == 6
    assert reference not in others


def test_a_changed_manager_rebuilds_what_comes_after_it_and_nothing_before() -> None:
    def keys(pip: str, npm: str) -> list[str]:
        packages = (("apt", ["jq"]), ("npm", [npm]), ("pip", [pip]))
        return [key for _, key in chain("base", packages, "linux/x86_64")]

    reference = keys("a==1", "tsx")
    other_pip, other_npm = keys("a==2", "tsx"), keys("a==1", "tsx@4")
    assert other_pip[:2] == reference[:2] and other_pip[2] != reference[2]
    assert other_npm[0] == reference[0] and not set(other_npm[1:]) & set(reference[1:])


def test_environments_share_the_layers_that_they_have_in_common_from_below() -> None:
    shorter = chain("base", (("apt", ["jq"]), ("npm", ["tsx"])), "linux/x86_64")
    longer = chain("base", (("apt", ["jq"]), ("npm", ["tsx"]), ("pip", ["a"])), "linux/x86_64")
    assert longer[:2] == shorter

"""Which replica a sequence goes to: the choice alone, without processes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openllm.fleet.affinity import BLOCK_TOKENS, BlocksRead, Standing, blocks, choose, clearly_more

LONG = 8  # blocks that are worth to be kept together

standings = st.lists(
    st.builds(
        Standing,
        sequences=st.integers(0, 40),
        turn=st.integers(0, 100),
        shared=st.integers(0, 20),
    ),
    min_size=1,
    max_size=8,
)
tokens = st.lists(st.integers(0, 3), max_size=5 * BLOCK_TOKENS)


def test_the_least_loaded_replica_is_chosen() -> None:
    assert choose([Standing(3, 1), Standing(1, 2), Standing(2, 3)]) == 1


def test_of_equally_loaded_ones_that_which_has_waited_longest() -> None:
    assert choose([Standing(1, 7), Standing(1, 5), Standing(1, 6)]) == 1


def test_a_prompt_goes_where_its_beginning_was_read() -> None:
    assert choose([Standing(0, 1), Standing(4, 2, LONG), Standing(1, 3, LONG - 1)]) == 1


def test_but_not_where_clearly_more_is_to_be_done() -> None:
    assert choose([Standing(0, 1), Standing(5, 2, LONG)]) == 0
    assert choose([Standing(20, 1), Standing(29, 2, LONG)]) == 1  # nine more, but not half as many again
    assert choose([Standing(20, 1), Standing(31, 2, LONG)]) == 0


def test_of_those_that_have_read_as_much_the_least_loaded() -> None:
    assert choose([Standing(3, 1, LONG), Standing(2, 2, LONG), Standing(0, 3)]) == 1


def test_a_short_beginning_is_not_worth_a_wait() -> None:
    assert choose([Standing(0, 1), Standing(1, 2, 3)]) == 0


@given(standings)
def test_the_choice_is_the_least_loaded_or_one_within_the_bound_that_has_read_most(
    each: list[Standing],
) -> None:
    chosen = each[choose(each)]
    least = min(standing.sequences for standing in each)
    assert not clearly_more(chosen.sequences, least)
    if chosen.sequences > least:
        assert chosen.shared == max(standing.shared for standing in each)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.integers(1, 200))
def test_without_prefixes_no_replica_gets_more_than_one_beyond_another(begin: list[int], count: int) -> None:
    loads, turns = list(begin), [0] * len(begin)
    for turn in range(1, count + 1):
        chosen = choose([Standing(*each) for each in zip(loads, turns, strict=True)])
        assert loads[chosen] == min(loads)
        loads[chosen] += 1
        turns[chosen] = turn


@given(tokens, tokens, tokens)
def test_prompts_share_the_blocks_of_their_common_beginning(
    common: list[int], one: list[int], other: list[int]
) -> None:
    read = BlocksRead()
    first, second = [*common, *one], [*common, *other]
    read.add(blocks(first, ""))
    agree = 0
    while agree < min(len(first), len(second)) and first[agree] == second[agree]:
        agree += 1
    assert read.shared(blocks(second, "")) == agree // BLOCK_TOKENS


def test_an_adapter_shares_nothing_with_the_model_or_another() -> None:
    prompt = list(range(4 * BLOCK_TOKENS))
    read = BlocksRead()
    read.add(blocks(prompt, "sql"))
    assert [read.shared(blocks(prompt, adapter)) for adapter in ("sql", "", "fr")] == [4, 0, 0]


def test_only_whole_blocks_count_and_not_beyond_the_first_256() -> None:
    assert len(blocks([1] * (BLOCK_TOKENS - 1), "")) == 0
    assert len(blocks([1] * (3 * BLOCK_TOKENS - 1), "")) == 2
    assert len(blocks([1] * (300 * BLOCK_TOKENS), "")) == 256


def test_what_was_used_longest_ago_is_forgotten_and_the_beginnings_last() -> None:
    read = BlocksRead(most=6)
    first, second = blocks([1] * (4 * BLOCK_TOKENS), ""), blocks([2] * (4 * BLOCK_TOKENS), "")
    read.add(first)
    read.add(second)
    assert (read.shared(first), read.shared(second)) == (2, 4)
    read.add(first)
    assert (read.shared(first), read.shared(second)) == (4, 2)
    read.forget()
    assert read.shared(first) == 0

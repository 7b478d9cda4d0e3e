"""A model's runners as the desk sees them: what each has, and which one is next to be given something."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from openllm.engines.base import Generation
from openllm.engines.encoding import Encoding
from openllm.fleet.affinity import BlocksRead, Standing, blocks, choose
from openllm.fleet.room import Room
from openllm.fleet.submission import Sequence
from openllm.runner.wire import Add, Encode, ToRunner

Send = Callable[[ToRunner], None]


class Post:
    """One replica's place. There is a runner at it between ``open`` and ``close``.

    ``at_runner`` are the ids of what the runner has, ``given`` counts what all its runners were given. ``fruitful`` is
    whether the runner of now, or the last one, has brought anything; ``expected`` whether there is one, or soon will
    be. ``busy_since`` and ``last_heard`` are seconds of the desk's clock.
    """

    __slots__ = (
        "at_runner", "busy_since", "expected", "fruitful", "given", "last_heard", "read", "room", "send", "turn",
    )  # fmt: skip

    def __init__(self, now: float) -> None:
        self.at_runner: set[int] = set()
        self.room = Room(0)
        self.send: Send | None = None
        self.read = BlocksRead()
        self.given = self.turn = 0
        self.fruitful = False
        self.expected = True
        self.busy_since = self.last_heard = now

    def open(self, send: Send, width: int, now: float) -> None:
        """A runner is ready that runs at most ``width`` sequences at once."""
        self.send = send
        self.room = Room(width)
        self.fruitful = False
        self.expected = True
        self.last_heard = now

    def close(self) -> list[int]:
        """The runner is gone; what it had, in order."""
        lost = sorted(self.at_runner)
        self.send = None
        self.at_runner.clear()
        self.read.forget()
        return lost

    def hand_over(self, sequences: Iterable[Sequence]) -> None:
        """Send sequences to its runner, all in one message."""
        assert self.send is not None
        requests = [each.request for each in sequences]
        generations = [each for each in requests if isinstance(each, Generation)]
        encodings = [each for each in requests if isinstance(each, Encoding)]
        if generations:
            self.send(Add(generations))
        if encodings:
            self.send(Encode(encodings))

    def has_room(self, *, background: bool = False) -> bool:
        """Would its runner take one more?"""
        most = self.room.background if background else self.room.live
        return self.send is not None and len(self.at_runner) < most


class Posts:
    """The posts of one model, at least one.

    While there are suspects (see ``Suspects``) one post, the ward, is given nothing else. What was lost once is given
    to the least loaded post at once. What was lost twice waits for a ward that has nothing but suspects, so that it can
    harm nobody: the next post that is empty, or that a new runner comes to.
    """

    def __init__(self, count: int, now: float) -> None:
        self._posts = tuple(Post(now) for _ in range(count))
        self._turn = 0
        self._ward: Post | None = None
        self._clean = False  # has the ward had nothing but suspects?

    def __iter__(self) -> Iterator[Post]:
        return iter(self._posts)

    def __getitem__(self, replica: int) -> Post:
        return self._posts[replica]

    @property
    def open(self) -> bool:
        """Is there a runner at any of them?"""
        return any(post.send is not None for post in self._posts)

    @property
    def at_runners(self) -> int:
        """Sequences that runners have."""
        return sum(len(post.at_runner) for post in self._posts)

    def has_room(self, *, background: bool = False) -> bool:
        """Would any of them but the ward take one more?"""
        return any(post.has_room(background=background) for post in self._posts if post is not self._ward)

    def choose(self, sequence: Sequence, *, background: bool = False) -> Post:
        """The post, of those that have room, that a sequence is best given to."""
        if len(self._posts) == 1:
            return self._posts[0]
        able = [
            post for post in self._posts if post is not self._ward and post.has_room(background=background)
        ]
        # A text leaves nothing in the engine that the next one could use.
        read = blocks(sequence.prompt, sequence.adapter) if isinstance(sequence.request, Generation) else []
        chosen = able[
            choose([Standing(len(post.at_runner), post.turn, post.read.shared(read)) for post in able])
        ]
        chosen.read.add(read)
        return chosen

    def give(self, post: Post, sequence: Sequence, now: float) -> None:
        """Note that a sequence goes to a post."""
        if not post.at_runner:
            post.busy_since = now
        post.at_runner.add(sequence.id)
        sequence.post = post
        post.given += 1
        self._turn += 1
        post.turn = self._turn

    def ward(self, *, harmful: bool) -> Post | None:
        """Where the next suspect is to go, if it can go anywhere now; ``harmful`` if it was lost twice."""
        if self._ward is None or (harmful and not self._clean):
            self._appoint(harmful)
        ward = self._ward
        if ward is None or not ward.has_room() or (harmful and not self._clean):
            return None
        return ward

    def dismiss_ward(self) -> None:
        """There are no suspects any more."""
        self._ward = None

    def close(self, replica: int) -> list[int]:
        """The runner of a replica is gone; what it had, in order."""
        post = self._posts[replica]
        if post is self._ward:
            self._ward = None
        return post.close()

    def _appoint(self, harmful: bool) -> None:
        """Choose the ward: an empty post, or else the least loaded, unless one that is empty will come."""
        able = [post for post in self._posts if post.send is not None]
        waits = harmful and any(post.send is None and post.expected for post in self._posts)
        ward = min(able, key=lambda post: (len(post.at_runner), post.turn), default=None)
        if ward is not None and ward.at_runner and waits:
            ward = None
        self._ward = ward
        self._clean = ward is not None and not ward.at_runner

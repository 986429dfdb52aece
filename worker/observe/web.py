"""The worker's pages: metrics, health, and live views over the table, routed to the worker that holds the key."""

from __future__ import annotations

import asyncio
import hmac
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp

from schemas.keys import user_key
from worker.observe import metrics
from worker.observe.guard import host_guard
from worker.observe.observer import observe_app, observe_state
from worker.observe.pages import (
    JSON,
    Page,
    TenantSummary,
    json_page,
    live_page,
    metrics_page,
    ready_page,
    user_sessions,
)
from worker.pipeline.privacy import home_partitions
from worker.sessions.state import decode_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from worker.enrich.enricher import GeoSource
    from worker.observe.interface import ObservedWorker
    from worker.pipeline.privacy import Pseudonyms
    from worker.sessions.limits import Limits
    from worker.sessions.state import User

ROUTED = "X-Sessionwatch-Routed"
"""Header of a request that another worker forwarded; it is not forwarded again."""
ROUTE_SECONDS = 5.0
HEALTH, AUTHORIZATION = "/health/", "Authorization"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
DENIED = json_page({"error": "a bearer token is required: web.token"}, 401)
UNKNOWN = json_page({"error": "there is no state of this user"}, 404)
_ELSEWHERE = (
    "the worker at {url} keeps this user; ask it, or set web.forward_over_http, with which workers send the token to "
    "one another over plain HTTP"
)
UNASSIGNED = json_page({"error": "the user's partition is being assigned; try again"}, 503)
SAMPLE_EVERY = 15_000
"""Milliseconds between two measurements of the state, however often metrics are read."""
YIELD_EVERY = 100
"""Users decoded before other tasks of the event loop run: about 5 ms."""


def add_pages(
    app: ObservedWorker,
    *,
    table: str,
    limits: Limits,
    clock: Callable[[], int],
    sources: Callable[[], Iterable[GeoSource]] = tuple,
    reasons: Callable[[], list[str]] = list,
    token: str = "",
    hosts: Iterable[str] = (),
    clear_token: bool = False,
    pseudonyms: Pseudonyms | None = None,
) -> None:
    """Add all pages to the app's web server; call it before the app starts.

    Args:
        app: the worker.
        table: name of its table.
        limits: half-lives of the risk scores.
        clock: milliseconds since the epoch.
        sources: the data sources of enrichment, for their age.
        reasons: why the worker is not ready, beyond the app's own.
        token: bearer token that all pages but those of health require; empty: none.
        hosts: host names that requests may use, in addition to addresses and `localhost`.
        clear_token: forward the token to other workers over plain HTTP.
        pseudonyms: the pseudonyms of user ids; None: ids are kept as they are.
    """
    app.web.web_app.middlewares.append(host_guard(hosts))
    pages = _Pages(app, table, limits, clock, sources, reasons, pseudonyms, clear_token=clear_token)
    for path, page in pages.routes().items():
        app.page(path, name=path)(_handler(page, "" if path.startswith(HEALTH) else token))


def _handler(page: Callable[..., Any], token: str) -> Callable[..., Any]:
    wanted = f"Bearer {token}".encode()

    async def handle(view: Any, request: Any, **match: str) -> Any:
        if token and not hmac.compare_digest(_borne(request), wanted):
            return view.web.bytes(DENIED.body, status=DENIED.status, headers={"WWW-Authenticate": "Bearer"})
        answer: Page = await page(request, **match)
        return view.web.bytes(answer.body, status=answer.status, headers={"Content-Type": answer.content_type})

    return handle


def _is_private(url: str) -> bool:
    """Return whether a request to a URL is encrypted, or does not leave this machine."""
    target = urlsplit(url)
    return target.scheme == "https" or target.hostname in LOOPBACK


def _borne(request: Any) -> bytes:
    """Return the request's credentials; bytes that are not text must not raise."""
    given: str = request.headers.get(AUTHORIZATION, "")
    return given.encode("utf-8", "surrogateescape")


class _Pages:
    def __init__(
        self,
        app: ObservedWorker,
        table: str,
        limits: Limits,
        clock: Callable[[], int],
        sources: Callable[[], Iterable[GeoSource]],
        reasons: Callable[[], list[str]],
        pseudonyms: Pseudonyms | None,
        *,
        clear_token: bool,
    ) -> None:
        self._app = app
        self._clear_token = clear_token
        self._table = table
        self._pseudonyms = pseudonyms
        self._limits = limits
        self._clock = clock
        self._sampled_at = -SAMPLE_EVERY
        self._sources = sources
        self._reasons = reasons

    def routes(self) -> dict[str, Callable[..., Any]]:
        """Return path -> page."""
        return {
            "/metrics": self.metrics,
            "/health/live": self.live,
            "/health/ready": self.ready,
            "/api/tenants/{tenant}/users/{user}": self.user,
            "/api/tenants/{tenant}": self.tenant,
        }

    async def metrics(self, _request: Any) -> Page:
        """Answer with all metrics."""
        observe_app(self._app)
        if self._clock() - self._sampled_at >= SAMPLE_EVERY:
            self._sampled_at = self._clock()
            observe_state(self._app)
        for source in self._sources():
            if source.built:
                metrics.GEO_AGE_SECONDS.labels(source.name).set(self._clock() / 1000 - source.built)
        return metrics_page()

    async def live(self, _request: Any) -> Page:
        """Answer that the event loop runs."""
        return live_page()

    async def ready(self, _request: Any) -> Page:
        """Answer whether the worker is ready."""
        return ready_page([*self._app.problems, *self._reasons()])

    async def user(self, request: Any, tenant: str, user: str) -> Page:
        """Answer with a user's active sessions, which another worker may keep.

        The user is given by id or by pseudonym. A pseudonym does not determine the partition, so every worker is asked.
        """
        name = self._pseudonyms.names(tenant, user)[0] if self._pseudonyms else user
        partitions, queues = home_partitions(tenant, user, self._app.settings.partitions), self._app.delivery.queues
        for shard in [queues[each] for each in partitions if each in queues]:
            if (state := shard.get(user_key(tenant, name))) is not None:
                return json_page(user_sessions(decode_user(state), self._clock(), self._limits))
        others = [each for each in partitions if each not in queues]
        if not others or (len(partitions) > 1 and ROUTED in request.headers):
            return UNKNOWN
        return await self._elsewhere(request, others)

    async def _elsewhere(self, request: Any, partitions: Sequence[int]) -> Page:
        answer = UNASSIGNED
        holders = dict.fromkeys(filter(None, map(self._holder, partitions)))
        for url in () if ROUTED in request.headers else holders:
            answer = await self._asked(url, request)
            if answer.status == 200:
                break
        return answer

    async def _asked(self, url: str, request: Any) -> Page:
        headers = {ROUTED: "1", **{name: request.headers[name] for name in (AUTHORIZATION,) if name in request.headers}}
        if AUTHORIZATION in headers and not (self._clear_token or _is_private(url)):
            return json_page({"error": _ELSEWHERE.format(url=url)}, 503)
        timeout = aiohttp.ClientTimeout(total=ROUTE_SECONDS)
        target = f"{url.rstrip('/')}{request.raw_path}"
        try:
            async with self._app.http_client.get(
                target, headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                return Page(answer.status, JSON, await answer.read())
        except (aiohttp.ClientError, TimeoutError):
            return json_page({"error": f"the worker that keeps the user does not answer ({url})"}, 503)

    def _holder(self, partition: int) -> str | None:
        """Return the address of the worker that keeps a partition."""
        for url, topics in self._app.router.table_metadata(self._table).items():
            if any(partition in partitions for partitions in topics.values()):
                return str(url)
        return None

    async def tenant(self, _request: Any, tenant: str) -> Page:
        """Answer with a tenant's counts on this worker."""
        summary = TenantSummary(tenant, self._clock(), self._limits)
        for number, user in enumerate(self._users(tenant), 1):
            summary.add(user)
            if number % YIELD_EVERY == 0:
                await asyncio.sleep(0)
        return json_page(summary.result())

    def _users(self, tenant: str) -> Iterator[User]:
        prefix = user_key(tenant, "")
        for shard in list(self._app.delivery.queues.values()):
            for key, state in shard.items():
                if key.startswith(prefix):
                    yield decode_user(state)

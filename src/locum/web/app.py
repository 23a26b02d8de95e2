"""The application: which path is answered by what."""

from __future__ import annotations

from http import HTTPStatus

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from locum.engine.supervisor import Supervisor
from locum.errors import ConflictError, LocumError, NotFoundError, NoTierError
from locum.page.assets import TYPES
from locum.policy.task import TaskState
from locum.web import query as q
from locum.web import shapes, shapes_of_access, shapes_of_alerts, shapes_of_work
from locum.web.alerts import Alerts
from locum.web.answers import Answers
from locum.web.bodies import BumpOrder, ImportOrder, NewTask, NewToken, ReleaseOrder, ReplayOrder, TrialOrder, WorkDone
from locum.web.endpoint import HOOK, NDJSON, PLAIN, SSE, Endpoint, Scope
from locum.web.feed import CrowdedError, Feed
from locum.web.hooks import HookCalls
from locum.web.imports import Imports
from locum.web.logins import Logins
from locum.web.match import ChangedError
from locum.web.metrics import Metrics
from locum.web.network import Network
from locum.web.openapi import Described
from locum.web.orders import Orders
from locum.web.peer import Door
from locum.web.problem import on_http_error, on_locum_error, on_surprise
from locum.web.resources import Resources
from locum.web.site import HTML, Site
from locum.web.spending import Spending
from locum.web.statusline import StatusLine

_LOG = (q.after, q.limit)


def build(supervisor: Supervisor) -> Starlette:
    """The whole HTTP face of one supervisor; requests need a peer in the scope's state (see `Door`).

    `state.feed` must run for event streams to go on.
    """
    feed, network = Feed(supervisor), Network(supervisor)
    metrics = Metrics(supervisor, feed, network)
    table = [
        *_reading(Answers(supervisor, feed, network), Spending(supervisor)),
        *_parts(Resources(supervisor)),
        *_orders(Orders(supervisor)),
        *_others(HookCalls(supervisor), Imports(supervisor)),
        *_logins(Logins(supervisor, network)),
        *_alerts(Alerts(supervisor)),
        Endpoint("GET", "/metrics", metrics.answer, media=(PLAIN,)),
        Endpoint(
            "GET",
            "/statusline",
            StatusLine(supervisor).answer,
            query=(q.Query("chain", "Whose line; left out: `default`."),),
            media=(PLAIN,),
            errors=(NotFoundError,),
        ),
        *_page(Site(supervisor)),
    ]
    table.append(Endpoint("GET", "/openapi.json", Described(table).answer, dict))
    app = Starlette(
        routes=[each.route for each in table],
        middleware=[Middleware(Door, running=lambda: supervisor.running().values(), gate=network)],
        exception_handlers={LocumError: on_locum_error, HTTPException: on_http_error, Exception: on_surprise},
    )
    app.state.stopping = anyio.Event()
    app.state.feed, app.state.network, app.state.metrics = feed, network, metrics
    return app


def _reading(answers: Answers, spending: Spending) -> list[Endpoint]:
    missing, work = (NotFoundError,), shapes_of_work
    states = q.Choices("state", "Only in these states.", choices=tuple(TaskState))
    history = (
        q.Choice("by", "How long each row is.", "day", choices=("hour", "day")),
        q.Moment("start", "From when on; left out: two days or thirty before `end`."),
        q.Moment("end", "Until when; left out: now."),
        q.Query("timezone", "Where days begin.", "UTC"),
        *(q.Query(name, f"Only of this {name}.") for name in ("chain", "tier", "account", "model")),
    )
    output = (
        q.Number("run", "Which attempt, from 1; left out: the last."),
        q.Choice("stream", "Which of its streams.", "out", choices=("out", "err")),
        q.Number("after", "The byte behind which to begin: `after` of the piece before.", 0),
    )
    follow = (q.Flag("from_start", "Whether attempts that have ended are told too.", default=True),)
    listed = (q.chain, states, q.limit, q.Cursor(of="tasks"))
    return [
        Endpoint("GET", "/usage", answers.usage, shapes.Usage),
        Endpoint("GET", "/status", answers.status, shapes.Status),
        Endpoint("GET", "/healthz", answers.health, shapes.Health, Scope.OPEN),
        Endpoint("GET", "/version", answers.version, shapes.Version),
        Endpoint("GET", "/usage/history", spending.history, shapes.History, query=history),
        Endpoint("GET", "/explain", answers.explain, shapes.Explained, query=(q.chain,), errors=missing),
        Endpoint(
            "GET",
            "/events",
            answers.events,
            work.Events,
            query=(*_LOG, q.chain, q.RowCursor(of="events")),
            media=(SSE,),
            errors=(CrowdedError,),
        ),
        Endpoint("GET", "/notices", answers.notices, work.Notices, query=(*_LOG, q.RowCursor(of="notices"))),
        Endpoint("GET", "/reports", answers.reports, work.Reports, query=(*_LOG, q.RowCursor(of="reports"))),
        Endpoint("GET", "/audit", answers.audit, shapes.Audit),
        Endpoint("GET", "/tasks", answers.tasks, work.Tasks, query=listed),
        Endpoint("GET", "/tasks/{id}", answers.task, work.WholeTask, errors=missing),
        Endpoint("GET", "/tasks/{id}/output", answers.output, work.Output, query=output, errors=missing),
        Endpoint("GET", "/tasks/{id}/follow", answers.follow, query=follow, media=(NDJSON,), errors=missing),
    ]


def _parts(parts: Resources) -> list[Endpoint]:
    return [
        Endpoint("GET", "/chains", parts.chains, shapes.Chains),
        Endpoint("GET", "/chains/{chain}", parts.chain, shapes.OneChain, errors=(NotFoundError,), headers=("etag",)),
        Endpoint("GET", "/tiers", parts.tiers, shapes.Tiers),
        Endpoint("GET", "/tiers/{tier}", parts.tier, shapes.OneTier, errors=(NotFoundError,)),
        Endpoint("GET", "/holds", parts.holds, shapes.Holds),
        Endpoint("GET", "/config", parts.config, shapes.Config, headers=("etag",)),
    ]


def _orders(orders: Orders) -> list[Endpoint]:
    work, gone = shapes_of_work, (NotFoundError, ConflictError)
    steering = (
        ("bump", orders.bump, work.Bumped, BumpOrder, (NotFoundError, NoTierError)),
        ("release", orders.release, work.Released, ReleaseOrder, (NotFoundError,)),
        ("pause", orders.pause, work.Paused, None, (NotFoundError,)),
        ("resume", orders.resume, work.Resumed, None, (NotFoundError,)),
    )
    return [
        Endpoint(
            "POST",
            "/tasks",
            orders.submit,
            work.OneTask,
            Scope.OPERATE,
            body=NewTask,
            status=HTTPStatus.CREATED,
            errors=(NotFoundError,),
            headers=("location",),
        ),
        Endpoint("POST", "/tasks/{id}/cancel", orders.cancel, work.OneTask, Scope.OPERATE, errors=gone),
        *(
            Endpoint(
                "POST",
                f"/chains/{{chain}}/{verb}",
                handler,
                answer,
                Scope.OPERATE,
                body=body,
                errors=(*errors, ChangedError),
                matched=True,
            )
            for verb, handler, answer, body, errors in steering
        ),
        Endpoint("POST", "/reload", orders.reload, shapes.Reloaded, Scope.OPERATE),
    ]


def _others(hooks: HookCalls, imports: Imports) -> list[Endpoint]:
    work = shapes_of_work
    named = (q.Query("chain", "Whose usage it is."), q.Query("tier", "Whose usage it is."))
    return [
        Endpoint(
            "POST",
            "/hooks/post-task",
            hooks.post_task,
            work.Verdict,
            Scope.LOCAL,
            body=WorkDone,
            errors=(NotFoundError, ConflictError),
        ),
        Endpoint(
            "POST",
            "/hooks/{agent}",
            hooks.agent,
            work.HookAnswer,
            Scope.LOCAL,
            query=named,
            body=HOOK,
            errors=(NotFoundError, ConflictError),
        ),
        Endpoint(
            "POST",
            "/import",
            imports.begin,
            scope=Scope.LOCAL,
            body=ImportOrder,
            media=(NDJSON,),
            errors=(NotFoundError, ConflictError),
        ),
    ]


def _logins(logins: Logins) -> list[Endpoint]:
    code = (q.Query("code", "The code of the link."),)
    gone = HTTPStatus.SEE_OTHER
    return [
        Endpoint("GET", "/tokens", logins.listed, shapes_of_access.AllTokens, Scope.LOCAL),
        Endpoint(
            "POST",
            "/tokens",
            logins.create,
            shapes_of_access.MadeToken,
            Scope.LOCAL,
            body=NewToken,
            status=HTTPStatus.CREATED,
            errors=(ConflictError,),
        ),
        Endpoint(
            "POST",
            "/tokens/{token}/revoke",
            logins.revoke,
            shapes_of_access.OneToken,
            Scope.LOCAL,
            errors=(NotFoundError,),
        ),
        Endpoint("POST", "/logins", logins.link, shapes_of_access.Link, Scope.LOCAL, errors=(ConflictError,)),
        Endpoint("GET", "/login", logins.login, scope=Scope.OPEN, query=code, status=gone, headers=("location",)),
        Endpoint("POST", "/logout", logins.logout, status=gone, headers=("location",)),
    ]


def _alerts(alerts: Alerts) -> list[Endpoint]:
    shape, missing = shapes_of_alerts, (NotFoundError,)
    listed = (
        q.Number("before", "Only those below this row (`seq`).", least=1),
        q.Number("limit", "How many at most.", 20, q.MOST, 1),
        q.Query("kind", "Only of this kind."),
        q.chain,
        q.Flag("failed", "Only those that some channel has given up.", default=False),
    )
    replay, trial, operate = ReplayOrder, TrialOrder, Scope.OPERATE
    return [
        Endpoint("GET", "/alerts", alerts.alerts, shape.AllAlerts, query=listed),
        Endpoint("POST", "/alerts/replay", alerts.replay, shape.Replays, operate, body=replay, errors=missing),
        Endpoint("POST", "/alerts/test", alerts.test, shape.Trials, operate, body=trial, errors=missing),
        Endpoint("GET", "/alerts/{id}", alerts.alert, shape.OneAlert, errors=missing),
    ]


def _page(site: Site) -> list[Endpoint]:
    asked = (
        q.Query("chain", "Which chain is shown; left out: the main one."),
        q.Query("tasks", "Only tasks in this state are listed."),
        q.Query("cursor", "Where the list of tasks begins."),
        q.Query("task", "A task that is shown with all its attempts."),
    )
    after = q.Number("after", "The byte behind which to begin: `after` of the answer before.", 0)
    return [
        Endpoint("GET", "/", site.page, query=asked, media=(HTML,), errors=(NotFoundError,)),
        Endpoint("GET", "/page/{version}/{name}", site.asset, media=tuple(TYPES.values()), errors=(NotFoundError,)),
        Endpoint("GET", "/page/said/of/{id}", site.said, shapes_of_work.Said, query=(after,), errors=(NotFoundError,)),
    ]

"""The application: which path is answered by what."""

from __future__ import annotations

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from locum.engine.supervisor import Supervisor
from locum.errors import LocumError
from locum.web.alerts import Alerts
from locum.web.answers import Answers
from locum.web.hooks import HookCalls
from locum.web.imports import Imports
from locum.web.orders import Orders
from locum.web.peer import Door
from locum.web.problem import on_http_error, on_locum_error, on_surprise


def build(supervisor: Supervisor) -> Starlette:
    """The whole HTTP face of one supervisor; requests need a peer in the scope's state (see `Door`)."""
    answers, orders, hooks = Answers(supervisor), Orders(supervisor), HookCalls(supervisor)
    imports, alerts = Imports(supervisor), Alerts(supervisor)
    app = Starlette(
        routes=[
            Route("/healthz", answers.health),
            Route("/version", answers.version),
            Route("/status", answers.status),
            Route("/usage", answers.usage),
            Route("/explain", answers.explain),
            Route("/events", answers.events),
            Route("/notices", answers.notices),
            Route("/alerts", alerts.alerts),
            Route("/alerts/replay", alerts.replay, methods=["POST"]),
            Route("/alerts/test", alerts.test, methods=["POST"]),
            Route("/alerts/{id}", alerts.alert),
            Route("/audit", answers.audit),
            Route("/tasks", answers.tasks, methods=["GET"]),
            Route("/tasks", orders.submit, methods=["POST"]),
            Route("/tasks/{id}", answers.task),
            Route("/tasks/{id}/follow", answers.follow),
            Route("/tasks/{id}/cancel", orders.cancel, methods=["POST"]),
            Route("/chains/{chain}/bump", orders.bump, methods=["POST"]),
            Route("/chains/{chain}/release", orders.release, methods=["POST"]),
            Route("/chains/{chain}/pause", orders.pause, methods=["POST"]),
            Route("/chains/{chain}/resume", orders.resume, methods=["POST"]),
            Route("/reports", answers.reports),
            Route("/hooks/post-task", hooks.post_task, methods=["POST"]),
            Route("/hooks/{agent}", hooks.agent, methods=["POST"]),
            Route("/import", imports.begin, methods=["POST"]),
            Route("/reload", orders.reload, methods=["POST"]),
        ],
        middleware=[Middleware(Door, running=lambda: supervisor.running().values())],
        exception_handlers={LocumError: on_locum_error, HTTPException: on_http_error, Exception: on_surprise},
    )
    app.state.stopping = anyio.Event()
    return app

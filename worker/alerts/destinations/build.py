"""Builds the sender of each destination from its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from worker.alerts.destinations.alertmanager import AlertmanagerSender
from worker.alerts.destinations.apprise import AppriseSender
from worker.alerts.destinations.chat import ChatSender
from worker.alerts.destinations.file import FileSender
from worker.alerts.destinations.mail import EmailSender
from worker.alerts.destinations.pagerduty import PagerDutySender
from worker.alerts.destinations.revoke import RevokeSender
from worker.alerts.destinations.shared_signals import SharedSignalsSender
from worker.alerts.destinations.syslog import SyslogSender
from worker.alerts.destinations.topic import TopicSender
from worker.alerts.destinations.webhook import WebhookSender
from worker.alerts.routing import kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from worker.alerts.alert import Sender
    from worker.alerts.config import Destination


class SenderContext(NamedTuple):
    """What senders need besides their settings.

    Attributes:
        clock: returns the time, in milliseconds since the epoch.
        kafka: options of aiokafka clients.
        host_name: name of this machine, for syslog.
    """

    clock: Callable[[], int]
    kafka: Mapping[str, Any]
    host_name: str


class BadDestinationError(ValueError):
    """The settings of a destination are invalid; the message names the destination and the reason."""


_SENDERS: dict[str, Callable[[Any, SenderContext, str | None], Sender]] = {
    "webhook": lambda config, given, _: WebhookSender(config, given.clock),
    "slack": lambda config, given, template: ChatSender(config, given.clock, template),
    "teams": lambda config, given, template: ChatSender(config, given.clock, template),
    "pagerduty": lambda config, given, _: PagerDutySender(config, given.clock),
    "alertmanager": lambda config, given, _: AlertmanagerSender(config, given.clock),
    "email": lambda config, given, template: EmailSender(config, given.clock, template),
    "syslog": lambda config, given, _: SyslogSender(config, given.host_name),
    "kafka": lambda config, given, _: TopicSender(config, given.kafka),
    "file": lambda config, _given, _: FileSender(config),
    "shared-signals": lambda config, given, _: SharedSignalsSender(config, given.clock),
    "revoke": lambda config, given, _: RevokeSender(config, given.clock),
    "apprise": lambda config, _given, template: AppriseSender(config, template),
}


def build_sender(name: str, config: Destination, given: SenderContext) -> Sender:
    """Return the sender of a destination.

    Raises:
        BadDestinationError: a key, certificate or template cannot be used.
    """
    try:
        template = config.template.read_text(encoding="utf-8") if config.template else None
        return _SENDERS[kind_of(config)](config, given, template)
    except OSError as error:
        raise BadDestinationError(f"alerts.destinations.{name}: {error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise BadDestinationError(f"alerts.destinations.{name}: {error}") from None

"""Workers behave like one loop: the models' tests again, for them."""

import pytest

from tests.servers.models.matrix import Bind, Serve, serving
from tests.servers.models.test_bytes import (
    test_a_half_closed_client_gets_its_answer,
    test_a_server_may_close_its_half,
    test_bytes_keep_their_order_both_ways,
)
from tests.servers.models.test_drain import (
    test_a_handler_at_work_is_let_finish,
    test_a_message_that_has_begun_is_finished,
    test_a_signal_ends_idle_connections_at_once,
    test_an_answer_that_is_being_read_slowly_is_let_finish,
    test_nobody_is_accepted_while_it_drains,
    test_stragglers_are_reset_and_counted,
    test_the_log_of_python_s_own_checks_is_empty,
)
from tests.servers.models.test_faults import (
    test_a_client_that_leaves_while_it_is_answered_harms_nobody,
    test_a_failing_handler_ends_its_own_connection_only,
    test_an_abrupt_reset_harms_nobody,
)
from tests.servers.models.test_known import test_what_is_known_of_a_connection

__all__ = [
    "test_a_client_that_leaves_while_it_is_answered_harms_nobody",
    "test_a_failing_handler_ends_its_own_connection_only",
    "test_a_half_closed_client_gets_its_answer",
    "test_a_handler_at_work_is_let_finish",
    "test_a_message_that_has_begun_is_finished",
    "test_a_server_may_close_its_half",
    "test_a_signal_ends_idle_connections_at_once",
    "test_an_abrupt_reset_harms_nobody",
    "test_an_answer_that_is_being_read_slowly_is_let_finish",
    "test_bytes_keep_their_order_both_ways",
    "test_nobody_is_accepted_while_it_drains",
    "test_stragglers_are_reset_and_counted",
    "test_the_log_of_python_s_own_checks_is_empty",
    "test_what_is_known_of_a_connection",
]


@pytest.fixture
def model() -> str:
    return "loop"


@pytest.fixture
def serve(bind: Bind) -> Serve:
    return serving(bind, "--workers", "2")

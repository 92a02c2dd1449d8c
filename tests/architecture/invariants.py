"""What the runtime promises, in numbers that people can cite, and the tests that prove each: data.

The table in `services/_runtime/README.md` is made from `INVARIANTS`, and `test_invariants.py` finds each test. Numbers
are given in order; a new promise stands with its kin, so cite a promise by its words where that must last.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Invariant:
    """A promise and its proof."""

    text: str
    tests: tuple[str, ...]
    """`<file under tests>::<function>`."""


def _of(text: str, *tests: str) -> Invariant:
    return Invariant(text, tests)


INVARIANTS: Final[tuple[Invariant, ...]] = (
    # The journal
    _of(
        "Acknowledging a doorbell deletes no history: WORK forgets the item, TASKS keeps every event.",
        "runtime/test_worker.py::test_a_handler_that_returns_has_its_doorbell_acknowledged",
        "runtime/test_bus.py::test_history_is_read_whole_and_from_any_point",
    ),
    _of(
        "Replaying a journal gives the state that executors held while it was written, whatever is read twice.",
        "runtime/test_journal.py::test_replay_gives_the_live_state",
        "contracts/test_task.py::test_the_fold_of_a_part_goes_on_with_the_rest",
        "contracts/test_task.py::test_duplicates_by_sequence_change_nothing",
    ),
    _of(
        "Of any number of writers that expect the same last event, one wins.",
        "runtime/test_bus.py::test_of_fifty_writers_with_the_same_expectation_exactly_one_wins",
    ),
    _of(
        "A fenced executor writes nothing, and one that stood still begins no step before it has looked.",
        "runtime/test_journal.py::test_an_executor_that_lost_its_task_can_write_nothing",
        "runtime/test_crash_points.py::test_a_process_that_wakes_up_after_another_took_over_changes_nothing",
        "runtime/test_promises.py::test_an_executor_that_stood_still_looks_before_it_begins_a_step",
        "services/ml_engineer/test_laws.py::test_a_zombie_that_wrote_is_seen",
    ),
    _of(
        "An event whose answer was lost is found again by its id and not written twice.",
        "runtime/test_promises.py::test_an_append_whose_answer_was_lost_is_found_again_and_not_written_twice",
        "runtime/test_promises.py::test_a_claim_whose_answer_was_lost_is_ones_own",
        "runtime/test_bus.py::test_a_publish_while_the_server_is_dead_is_stored_once_when_it_is_back",
    ),
    _of(
        "A step that is recorded is not done again; kill -9 anywhere repeats at most the step in flight.",
        "runtime/test_journal.py::test_a_recorded_step_is_not_run_again_by_the_next_executor",
        "runtime/test_crash_points.py::test_a_process_that_is_killed_there_changes_nothing",
    ),
    _of(
        "An effect outside the bus carries the key `<task>/<step>`, whoever executes it.",
        "runtime/test_promises.py::test_the_key_of_an_effect_is_the_tasks_and_the_steps_whoever_executes_it",
        "runtime/test_crash_points.py::test_a_process_that_is_killed_there_changes_nothing",
    ),
    # The five rules of doorbells
    _of(
        "Rule 1: a doorbell of a task that is over, or of an event before the last closing one, is acknowledged.",
        "contracts/test_task.py::test_nobody_claims_what_is_over_or_taken_in",
        "e2e/test_crashes.py::test_a_restarted_bus_does_not_wake_a_task_that_waits",
    ),
    _of(
        "Rule 2: a doorbell beside an open activation is acknowledged, and the running executor takes the event in;"
        " `redriven` alone takes over.",
        "contracts/test_task.py::test_another_doorbell_leaves_the_running_executor_alone",
        "runtime/test_journal.py::test_another_doorbell_leaves_a_running_task_alone",
        "runtime/test_journal.py::test_an_answer_that_comes_meanwhile_is_taken_in",
    ),
    _of(
        "Rule 3: any other doorbell claims the task by compare-and-set; the same one again is a takeover.",
        "contracts/test_task.py::test_the_same_doorbell_again_is_a_takeover",
        "contracts/test_task.py::test_the_doorbell_of_a_pending_event_is_answered",
    ),
    _of(
        "Rule 4: a fenced executor stops, and acknowledges only where the new claim stands on another item.",
        "runtime/test_promises.py::test_a_fenced_executor_acknowledges_only_what_the_new_holder_does_not_stand_on",
    ),
    _of(
        "Rule 5: a task that is neither final nor waiting has a doorbell; the supervisor rings where one is missing.",
        "contracts/test_task.py::test_a_task_that_neither_ended_nor_waits_needs_a_doorbell",
        "contracts/test_task.py::test_a_held_task_needs_a_doorbell",
        "services/gateway/test_supervisor.py::test_a_task_whose_doorbell_was_lost_is_rung_again",
    ),
    _of(
        "Whatever happens to doorbells and executors, once faults stop each task ends, once.",
        "contracts/test_doorbells.py::TestDoorbells",
        "chaos/test_short.py::test_nothing_is_lost_doubled_stuck_or_unaccounted_under_faults",
    ),
    _of(
        "What wakes a task while it is let go is decided on before it is let go: nothing that was said is overlooked.",
        "runtime/test_journal.py::test_an_answer_that_comes_while_the_task_is_let_go_is_decided_on",
        "runtime/test_worker.py::test_a_handler_decides_again_on_what_came_while_it_let_go",
    ),
    # The life of a task
    _of(
        "A briefing precedes any question, and nothing is asked that the briefing or an earlier answer says.",
        "services/ml_engineer/test_engagement.py::test_a_whole_conversation_from_brief_to_summary",
        "services/ml_engineer/test_laws.py::test_each_law_can_be_broken_and_is_then_told",
    ),
    _of(
        "Every file in a report exists and differs from before, and every difference is in the report.",
        "e2e/test_crashes.py::test_killing_the_engineer_in_the_middle_of_training_loses_and_doubles_nothing",
        "services/ml_engineer/test_laws.py::test_each_law_can_be_broken_and_is_then_told",
    ),
    _of(
        "Delivered, reported, summarised, final: in this order, each once; a summary comes after its report.",
        "services/ml_engineer/test_engagement.py::test_many_tasks_at_once_each_keep_the_laws",
        "services/summarizer/test_service.py::test_a_reported_task_gets_one_summary_however_often_the_doorbell_rings",
        "services/ml_engineer/test_engagement.py::test_without_a_summary_the_agent_ends_the_task_in_its_own_words",
    ),
    _of(
        "A task ends exactly once, also when cancel, timeout, answers, completion and the supervisor race.",
        "runtime/test_races.py::test_any_interleaving_of_ends_leaves_one",
        "runtime/test_races.py::test_a_task_ends_once_whoever_is_first",
    ),
    _of(
        "What comes after the end stays in the stream and changes nothing.",
        "contracts/test_task.py::test_nothing_after_the_final_event_changes_the_state",
        "runtime/test_worker.py::test_events_after_the_final_one_change_nothing",
        "runtime/test_races.py::test_a_task_ends_once_whoever_is_first",
    ),
    _of(
        "A second submission of an id is a dead letter; the first task goes on.",
        "services/gateway/test_supervisor.py::test_a_second_submission_of_an_id_is_a_dead_letter_and_changes_nothing",
        "contracts/test_task.py::test_a_second_submission_changes_nothing",
        "e2e/test_bad_input.py::test_a_second_submission_of_an_id_changes_nothing",
    ),
    _of(
        "A timer fires once, also when it was due while the server was dead; set again, it replaces itself.",
        "runtime/test_bus.py::test_a_timer_that_was_due_while_the_server_was_dead_fires_once",
        "runtime/test_bus.py::test_setting_a_timer_again_replaces_it",
    ),
    _of(
        "Waiting costs no process: nobody holds a task that waits for a person, and it outlives everybody's restart.",
        "contracts/test_task.py::test_a_task_that_waits_for_a_person_has_no_open_claim",
        "services/ml_engineer/test_engagement.py::test_waiting_survives_a_restart_of_everybody",
        "runtime/test_waiting.py::test_waiting_tasks_cost_no_process_and_no_memory_and_survive_a_restart_of_everything",
    ),
    _of(
        "A cancel or a deadline stops what runs within moments, and of a cancelled task no step is begun again.",
        "runtime/test_worker.py::test_a_cancel_stops_a_running_handler_and_ends_the_task",
        "runtime/test_crash_points.py::test_a_process_that_is_killed_there_changes_nothing",
    ),
    # Messages
    _of(
        "What cannot be processed is a dead letter before it is terminated; without the letter it stays.",
        "runtime/test_worker.py::test_a_malformed_message_is_a_dead_letter_with_its_reason",
        "runtime/test_worker.py::test_a_dead_letter_that_cannot_be_written_is_told",
        "services/gateway/test_supervisor.py::test_what_cannot_be_routed_or_read_is_a_dead_letter",
    ),
    _of(
        "In-progress beats keep work of any length; a dead executor's work goes to another after the acknowledgement"
        " wait.",
        "runtime/test_worker.py::test_a_handler_longer_than_the_acknowledgement_wait_is_not_given_away",
        "e2e/test_crashes.py::test_killing_the_engineer_in_the_middle_of_training_loses_and_doubles_nothing",
    ),
    _of(
        "A restart in good order loses nothing and repeats nothing: steps are finished, doorbells given back at once.",
        "runtime/test_upgrades.py::test_a_rolling_restart_loses_nothing_and_repeats_nothing",
        "runtime/test_worker.py::test_a_worker_that_stops_finishes_the_step_and_leaves_the_next",
        "runtime/test_worker.py::test_a_stopped_worker_gives_its_task_back_at_once",
    ),
    _of(
        "Work that kills its executor each time ends as failed; progress made in between counts anew.",
        "runtime/test_worker.py::test_what_kills_its_executor_each_time_fails",
        "contracts/test_task.py::test_attempts_are_the_claims_in_a_row_that_came_to_nothing",
    ),
    # Versions
    _of(
        "Journals of the version before are read, mean the same, and are brought to their end.",
        "contracts/test_journals.py::test_a_journal_is_read_as_it_was_written",
        "contracts/test_journals.py::test_a_known_version_means_the_same",
        "contracts/test_journals.py::test_recorded_results_are_what_the_engineer_of_the_day_reads",
        "runtime/test_upgrades.py::test_a_reported_task_of_the_version_before_is_brought_to_its_end",
        "runtime/test_upgrades.py::test_a_waiting_task_of_the_version_before_can_be_cancelled",
    ),
    _of(
        "An unknown major version has no effect on a task and is a dead letter.",
        "contracts/test_journals.py::test_an_unknown_major_has_no_effect",
        "runtime/test_upgrades.py::test_what_a_later_major_says_is_a_dead_letter_each",
    ),
)

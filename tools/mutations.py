# SPDX-License-Identifier: MIT OR Apache-2.0
"""What tools/mutate breaks, and the tests that must notice."""

from collections import namedtuple

# tests: C test programs, or "cargo FILTER" for a Rust test.
Mutation = namedtuple("Mutation", "name file old new tests")

# What the library stands on: `mutate --main` tries these alone.
MAIN = (
    "retire on the first completion", "ignore the notification", "free at", "free on thread exit", "use a slot again", "push a chain entry by entry",
    "callback under the lock", "lose the second look for a wake", "trust a completion", "trust a last completion", "drop what waits for room",
    "leave a first letter",
)  # fmt: skip

MUTATIONS = [
    Mutation(
        "retire on the first completion", "src/core/complete.rs",
        "    Meaning::Event(cqe)\n}",
        "    Meaning::Last { result: cqe.result, flags: cqe.flags, extra: 0 }\n}",
        ["test_multishot", "test_raw"],
    ),
    Mutation(
        "ignore the notification of a zero-copy send", "src/core/complete.rs",
        "        return Meaning::Noted;",
        "        return Meaning::Last { result: cqe.result, flags: cqe.flags, extra: 0 };",
        ["test_zerocopy"],
    ),
    Mutation(
        "trust a completion with a wrong generation", "src/core/table.rs",
        "Some(io) if io.handle == handle && generation_of(handle) != 0",
        "Some(io) if generation_of(handle) != 0",
        ["test_foreign", "test_abuse"],
    ),
    Mutation(
        "trust a last completion with a wrong generation", "src/core/table/plain.rs",
        ".filter(|io| io.handle == handle && io.is_plain() && io.notify.is_some())?",
        ".filter(|io| io.is_plain() && io.notify.is_some())?",
        ["test_foreign"],
    ),
    Mutation(
        "trust a handle that has no generation", "src/core/table.rs",
        "Some(io) if io.handle == handle && generation_of(handle) != 0",
        "Some(io) if io.handle == handle || generation_of(handle) == 0",
        ["test_abuse"],
    ),
    Mutation(
        "trust a completion of the wrong kind", "src/core/complete.rs",
        "            self.own_completion(cqe);",
        "            if self.table.get(cqe.user_data as u32).is_some() {\n"
        "                return Some((cqe.user_data as u32, Meaning::Last { result: cqe.result, flags: 0, extra: 0 }));\n"
        "            }",
        ["test_foreign"],
    ),
    Mutation(
        "trust a completion of an I/O that is not in the kernel", "src/core/complete.rs",
        "        if io.state != At::Kernel {",
        "        if false {",
        ["test_foreign"],
    ),
    Mutation(
        "forget that the event loop's timer has gone off", "src/core/complete.rs",
        "self.in_loop.timer_at = 0,",
        "self.in_loop.timer_at = u64::MAX,",
        ["test_event"],
    ),
    Mutation(
        "use a slot again without a new generation", "src/core/table.rs",
        "self.generation.wrapping_add(SLOTS.into())",
        "self.generation.wrapping_add(0)",
        ["test_io", "test_abuse"],
    ),
    Mutation(
        "free at drop", "src/core/discarded.rs",
        "_buf: if is_done { io.buf.take() } else { None }",
        "_buf: io.buf.take()",
        ["test_cancel", "test_multishot"],
    ),
    Mutation(
        "free at close", "src/core/close.rs",
        "                closing.held.push(pair);",
        "                drop(pair);",
        ["test_quarantine", "test_orphan"],
    ),
    Mutation(
        "free what is quarantined without a look at the sentinel", "src/core/quarantine.rs",
        "process.is_current() && orphans.sentinel.hung_up()",
        "process.is_current()",
        ["test_quarantine", "test_orphan"],
    ),
    Mutation(
        "free on thread exit", "src/core/close.rs",
        "(place, held.is_empty()) {",
        "(place, held.is_empty() || self.owner_exited()) {",
        ["test_quarantine"],
    ),
    Mutation(
        "call a callback under the lock", "src/core/session.rs",
        "                    return Some(delivery);",
        "                    std::mem::forget(state);\n                    return Some(delivery);",
        ["test_unlocked"],
    ),
    Mutation(
        "call a plain I/O's callback under the lock in a run without a limit", "src/core/usual.rs",
        "        let callback = self.ring.lock_as_owner(self.me)?.retire_plain(self.out)?;\n",
        "        let mut state = self.ring.lock_as_owner(self.me)?;\n"
        "        let callback = state.retire_plain(self.out)?;\n"
        "        std::mem::forget(state);\n",
        ["test_unlocked"],
    ),
    Mutation(
        "call a plain I/O's callback under the lock", "src/core/session.rs",
        "        let callback = state.retire_plain(&self.out)?;\n",
        "        let callback = state.retire_plain(&self.out)?;\n        std::mem::forget(state);\n",
        ["test_unlocked"],
    ),
    Mutation(
        "call a release function under the lock", "src/core/cancel.rs",
        "            state.drop_io(io)?\n",
        "            let (user_data, discarded) = state.drop_io(io)?;\n            drop(discarded);\n            (user_data, 0)\n",
        ["test_unlocked", "test_release"],
    ),
    Mutation(
        "lose the second look for a wake", "src/core/wake.rs",
        "let woken = self.sleep.woken.load(Ordering::Relaxed) && !seeded!(NoSecondLook);",
        "let woken = false;",
        ["test_window"],
    ),
    Mutation(
        "lose the event loop's second look for completions", "src/core/prepare.rs",
        "        if state.has_work() {\n            return Ok(Some(true));",
        "        if false {\n            return Ok(Some(true));",
        ["test_event"],
    ),
    Mutation(
        "lose the event loop's look at what the kernel holds back", "src/core/prepare.rs",
        "backend.publish() == 0 && !backend.holds_back();",
        "backend.publish() == 0;",
        ["test_event"],
    ),
    Mutation(
        "clear the event fd after the look", "src/core/prepare.rs",
        "            if let Some(ready) = self.second_look(me)? {",
        "            if let Some(ready) = self.second_look(me)? {\n                os::eventfd_clear(self.lock(me).event_fd()?);",
        ["test_window"],
    ),
    Mutation(
        "forget a start from another thread while the driver sleeps", "src/core/wake.rs",
        "            && me != self.owner()\n",
        "            && me == 0\n",
        ["test_threads"],
    ),
    Mutation(
        "forget what other threads' starts ask of one that enters", "src/core/starter.rs",
        "                state.starter.asked = true;\n",
        "",
        ["test_shared"],
    ),
    Mutation(
        "enter once for a start though more waits than the queue takes", "src/core/starter.rs",
        "left = left.saturating_sub(taken as usize)",
        "left = 0",
        ["test_shared"],
    ),
    Mutation(
        "sleep on after a signal while another thread drives", "src/sys/futex.rs",
        "Err(Errno(libc::EINTR)) => Slept::Signal",
        "Err(Errno(libc::EINTR)) => Slept::Told",
        ["test_signals"],
    ),
    Mutation(
        "tell who waits only after the callbacks", "src/core/session.rs",
        "        self.ring.tell_waiters();\n",
        "",
        ["test_shared"],
    ),
    Mutation(
        "push a chain entry by entry", "src/core/chain.rs",
        "            self.enqueue_member(slot, &sqe, is_direct);\n            if count > 1 {",
        "            let is_direct = self.has_room_for(1);\n"
        "            self.enqueue_member(slot, &sqe, is_direct);\n"
        "            if count > 1 {",
        ["test_chain"],
    ),
    Mutation(
        "move a waiting chain into the queue in parts", "src/core/state.rs",
        "while backend.room() as usize > self.overflow.iter().take_while(linked).count() {",
        "while backend.room() as usize > self.overflow.iter().take_while(linked).count().min(0) {",
        ["test_chain"],
    ),
    Mutation(
        "drop what waits for room when a submit fails", "src/core/wait.rs",
        "            _ => errno.into(),",
        "            _ => {\n                self.overflow.clear();\n                errno.into()\n            }",
        ["test_refused"],
    ),
    Mutation(
        "finish the I/Os of entries that stay in the queue when a submit fails", "src/core/wait.rs",
        "            _ => errno.into(),",
        "            _ => {\n"
        "                while let Some(slot) = self.table.next_slot(0, |io| io.state == super::table::State::Kernel) {\n"
        "                    self.settle(slot, -errno.0, 0, 0);\n"
        "                }\n"
        "                errno.into()\n"
        "            }",
        ["test_refused"],
    ),
    Mutation(
        "submit again what the kernel took though it reports an error", "src/core/wait.rs",
        "last.taken = last.submitted.saturating_sub(untaken);",
        "last.taken = untaken.min(0);",
        ["test_refused"],
    ),
    Mutation(
        "let a forked child in", "src/core/ring.rs",
        "        !self.process.is_current()\n",
        "        false\n",
        ["test_calls", "test_hostile"],
    ),
    Mutation(
        "leave descriptors of discarded results open", "src/core/discarded.rs",
        "        self.fds.into_iter().filter(own).for_each(close_unwanted);",
        "",
        ["test_descriptors", "test_close"],
    ),
    Mutation(
        "leave descriptors of unwanted events open", "src/core/complete.rs",
        "        fds.into_iter().filter(|fd| *fd >= 0).for_each(crate::sys::os::close_unwanted);",
        "",
        ["test_multishot", "test_hostile"],
    ),
    Mutation(
        "take raw entries that never complete", "src/core/entries.rs",
        "    opcode && sqe.flags & !FLAGS == 0",
        "    opcode && sqe.flags & !(FLAGS | 64) == 0",
        ["test_raw_table", "test_raw"],
    ),
    Mutation(
        "give the slot that a running callback has freed to another thread", "src/core/start.rs",
        "if self.table.free() >= count + self.held_back { Ok(()) }",
        "if self.table.free() >= count { Ok(()) }",
        ["test_once"],
    ),
    Mutation(
        "process for ever while completions keep coming", "src/core/session.rs",
        "            if self.fresh == 0 || self.delivered >= self.budget {",
        "            self.fresh = 1;\n            if self.delivered >= self.budget {",
        ["test_manners", "test_drive"],
    ),
    Mutation(
        "cancel by slot, not by handle", "src/core/cancel.rs",
        "addr: handle, ..Sqe::default() };",
        "addr: u64::from(slot), ..Sqe::default() };",
        ["test_cancel"],
    ),
    Mutation(
        "ask for a cancel only once", "src/core/complete.rs",
        "self.missed |= cqe.result != 0,",
        "self.missed |= false,",
        ["test_quirks"],
    ),
    Mutation(
        "leave I/Os of a thread that has exited cancelled", "src/core/complete.rs",
        "if result == -libc::ECANCELED && self.first_of_chain",
        "if false && self.first_of_chain",
        ["test_shared"],
    ),
    Mutation(
        "leave a first letter and wake nobody", "src/core/inbox.rs",
        "let wakes = desk.letters.len() == 1 && self.first_letter_wakes(me);",
        "let wakes = desk.letters.len() == 1 && self.first_letter_wakes(me) && false;",
        ["test_inbox"],
    ),
    Mutation(
        "sleep over letters", "src/core/wake.rs",
        "if woken || self.inbox.has_letters() {",
        "if woken {",
        ["test_inbox"],
    ),
    Mutation(
        "hide letters from who takes the lock", "src/core/ring.rs",
        "        if self.has_letters() {\n            self.empty",
        "        if self.has_letters() && state.driver == me {\n            self.empty",
        ["test_inbox"],
    ),
    Mutation(
        "keep the room of handles from the owner", "src/core/inbox.rs",
        "if status != Status::EAGAIN || state.table.reserved() == 0 {",
        "if status != Status::EAGAIN || state.table.reserved() != 0 {",
        ["test_inbox"],
    ),
    Mutation(
        "take letters while the ring closes", "src/core/close.rs",
        "            state.phase = Phase::Closing;\n            self.clear_inbox(&mut state);\n            return Ok((None, 0));",
        "            state.phase = Phase::Closing;\n            return Ok((None, 0));",
        ["test_inbox"],
    ),
    Mutation(
        "leave registered files open that nobody takes", "src/core/files.rs",
        "        let _ = self.enqueue_own(Kind::CloseFile, close);",
        "        let _ = close;",
        ["test_files"],
    ),
    Mutation(
        "use a slot of registered files again while an I/O names it", "src/core/files.rs",
        " && !self.is_named(1 + slots + place)",
        "",
        ["test_files"],
    ),
    Mutation(
        "end a whole transfer at a short one", "src/core/redo.rs",
        "        if barred.is_some() || now == 0 || self.done >= full {",
        "        if true {",
        ["test_op_full"],
    ),
]

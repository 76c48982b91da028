import CRWKVKernels
import Glibc
import Synchronization

/// Threads that do pieces of work beside the one that has it to do.
///
/// Between two pieces of work they wait for some microseconds, and then sleep: longer waiting would take from others what they need on a
/// machine that is busy. Work is done when its pieces are, whoever did them: a thread that comes late is not waited for.
final class Workers: @unchecked Sendable {
    /// Looks for more work, of which each takes some hundredths of a microsecond.
    private static let patience = 1000

    private let threads: [pthread_t]
    private let board: Board

    /// So many threads, besides the one that gives them work.
    init(count: Int) {
        let board = Board()
        self.board = board
        threads = (0..<count).compactMap { _ in
            var thread = pthread_t()
            let argument = Unmanaged.passRetained(board)
            let result = pthread_create(
                &thread, nil,
                { argument in
                    if let argument { Unmanaged<Board>.fromOpaque(argument).takeRetainedValue().work() }
                    return nil
                }, argument.toOpaque())
            if result == 0 { return thread }
            argument.release()
            return nil
        }
    }

    deinit {
        board.close()
        for thread in threads { pthread_join(thread, nil) }
    }

    /// Does pieces of work, each on one thread; those of others that ask at the same time are theirs alone.
    func forEach(_ count: Int, _ work: (Int) -> Void) {
        guard board.isTaken.compareExchange(expected: false, desired: true, ordering: .acquiringAndReleasing).exchanged
        else { return (0..<count).forEach(work) }
        withoutActuallyEscaping(work) { work in board.do(count, work) }
        board.isTaken.store(false, ordering: .releasing)
    }

    /// Where the work is put up.
    private final class Board: @unchecked Sendable {
        let isTaken = Atomic(false)
        /// The number of the work, and of the piece that is next: who takes a piece of other work than is there would see that.
        private let ticket = Atomic<UInt64>(0)
        private let isClosed = Atomic(false)
        private let sleepers = Atomic(0)
        private let isOwnerAsleep = Atomic(false)
        private let done = Atomic(0)
        private let count = Atomic(0)
        // Written before the ticket is, and read by those that have a piece, without which the work does not end.
        private var piece: (Int) -> Void = { _ in }

        private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
        private let hasWork = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
        private let isDone = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

        init() {
            pthread_mutex_init(mutex, nil)
            pthread_cond_init(hasWork, nil)
            pthread_cond_init(isDone, nil)
        }

        deinit {
            pthread_cond_destroy(isDone)
            pthread_cond_destroy(hasWork)
            pthread_mutex_destroy(mutex)
            isDone.deallocate()
            hasWork.deallocate()
            mutex.deallocate()
        }

        func `do`(_ count: Int, _ work: @escaping (Int) -> Void) {
            let number = ticket.load(ordering: .relaxed) >> 32 &+ 1
            // Nobody takes pieces while there are none.
            self.count.store(0, ordering: .sequentiallyConsistent)
            piece = work
            done.store(0, ordering: .relaxed)
            ticket.store(number << 32, ordering: .sequentiallyConsistent)
            self.count.store(count, ordering: .sequentiallyConsistent)
            if sleepers.load(ordering: .sequentiallyConsistent) > 0 {
                pthread_mutex_lock(mutex)
                pthread_cond_broadcast(hasWork)
                pthread_mutex_unlock(mutex)
            }
            takePieces()
            for _ in 0..<Workers.patience {
                if done.load(ordering: .acquiring) == count { break }
                rwkv_pause()
            }
            if done.load(ordering: .acquiring) < count {
                pthread_mutex_lock(mutex)
                isOwnerAsleep.store(true, ordering: .sequentiallyConsistent)
                while done.load(ordering: .sequentiallyConsistent) < count { pthread_cond_wait(isDone, mutex) }
                isOwnerAsleep.store(false, ordering: .relaxed)
                pthread_mutex_unlock(mutex)
            }
            piece = { _ in }
        }

        private func takePieces() {
            while true {
                let seen = ticket.load(ordering: .sequentiallyConsistent)
                let place = Int(seen & 0xFFFF_FFFF)
                let count = count.load(ordering: .sequentiallyConsistent)
                guard place < count else { return }
                guard
                    ticket.compareExchange(expected: seen, desired: seen + 1, ordering: .sequentiallyConsistent)
                        .exchanged
                else { continue }
                piece(place)
                if done.add(1, ordering: .sequentiallyConsistent).newValue == count,
                    isOwnerAsleep.load(ordering: .sequentiallyConsistent)
                {
                    pthread_mutex_lock(mutex)
                    pthread_cond_signal(isDone)
                    pthread_mutex_unlock(mutex)
                }
            }
        }

        private var hasPieces: Bool {
            Int(ticket.load(ordering: .sequentiallyConsistent) & 0xFFFF_FFFF)
                < count.load(ordering: .sequentiallyConsistent)
        }

        /// What each thread does until the board is closed.
        func work() {
            while !isClosed.load(ordering: .acquiring) {
                takePieces()
                for _ in 0..<Workers.patience {
                    if hasPieces { break }
                    rwkv_pause()
                }
                if hasPieces { continue }
                pthread_mutex_lock(mutex)
                sleepers.add(1, ordering: .sequentiallyConsistent)
                while !hasPieces, !isClosed.load(ordering: .sequentiallyConsistent) {
                    pthread_cond_wait(hasWork, mutex)
                }
                sleepers.subtract(1, ordering: .sequentiallyConsistent)
                pthread_mutex_unlock(mutex)
            }
        }

        func close() {
            pthread_mutex_lock(mutex)
            isClosed.store(true, ordering: .sequentiallyConsistent)
            pthread_cond_broadcast(hasWork)
            pthread_mutex_unlock(mutex)
        }
    }
}

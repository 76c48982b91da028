import CRWKVKernels
import Glibc
import Synchronization

/// A pool of threads that help the calling thread with the pieces of a job.
///
/// Between jobs, the threads spin for tens of microseconds and then sleep. On a busy machine, longer spinning would
/// take time from other processes.
///
/// A job ends when all its pieces are done, no matter which threads have done them. The caller does not wait for a
/// thread that wakes up late.
final class Workers: @unchecked Sendable {
    /// The number of times that a thread polls before it sleeps; one poll takes a few tens of nanoseconds.
    private static let pollLimit = 1000

    private let threads: [pthread_t]
    private let board: Job

    /// Creates a pool of up to `count` threads, in addition to the calling thread.
    init(count: Int) {
        let board = Job()
        self.board = board
        threads = (0..<count).compactMap { _ in
            var thread = pthread_t()
            let argument = Unmanaged.passRetained(board)
            let result = pthread_create(
                &thread, nil,
                { argument in
                    if let argument { Unmanaged<Job>.fromOpaque(argument).takeRetainedValue().work() }
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

    /// Calls `work` once for each index below `count`, dividing the calls among all threads.
    ///
    /// If another job is running, the calling thread makes all calls itself.
    func forEach(_ count: Int, _ work: (Int) -> Void) {
        guard board.isBusy.compareExchange(expected: false, desired: true, ordering: .acquiringAndReleasing).exchanged
        else { return (0..<count).forEach(work) }
        withoutActuallyEscaping(work) { work in board.do(count, work) }
        board.isBusy.store(false, ordering: .releasing)
    }

    /// The current job, shared by all threads.
    private final class Job: @unchecked Sendable {
        let isBusy = Atomic(false)
        /// The job's generation in the high half, and the index of its next piece in the low half.
        ///
        /// If a job ends while a thread is trying to take one of its pieces, the thread's compare-exchange fails,
        /// because the generation of the next job is different.
        private let ticket = Atomic<UInt64>(0)
        private let isClosed = Atomic(false)
        private let sleepers = Atomic(0)
        private let isOwnerAsleep = Atomic(false)
        private let done = Atomic(0)
        private let count = Atomic(0)
        // This closure is written before the ticket. Only a thread that has taken a piece reads it, and the job does
        // not end before that piece is done.
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
            // Threads do not take pieces while the count is zero.
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
            for _ in 0..<Workers.pollLimit {
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

        /// Runs pieces of jobs until `close` is called; each thread of the pool runs this loop.
        func work() {
            while !isClosed.load(ordering: .acquiring) {
                takePieces()
                for _ in 0..<Workers.pollLimit {
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

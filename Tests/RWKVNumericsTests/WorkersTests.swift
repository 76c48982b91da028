import Glibc
import Synchronization
import Testing

@testable import RWKVNumerics

/// Checks that every piece of work is done exactly once.
///
/// It must not matter which thread starts the work, or how often threads have slept before.
struct WorkersTests {
    private func sum(_ workers: Workers, pieces: Int) -> Int {
        let total = Atomic(0)
        workers.forEach(pieces) { total.add($0 + 1, ordering: .relaxed) }
        return total.load(ordering: .relaxed)
    }

    @Test("many small pieces of work, with one, two and seven more threads", arguments: [1, 2, 7])
    func small(_ count: Int) {
        let workers = Workers(count: count)
        for round in 0..<20_000 {
            let pieces = round % 9
            #expect(sum(workers, pieces: pieces) == pieces * (pieces + 1) / 2)
        }
    }

    @Test("sleeping threads are woken, and end")
    func sleep() {
        for _ in 0..<20 {
            let workers = Workers(count: 3)
            for _ in 0..<5 {
                usleep(3000)
                #expect(sum(workers, pieces: 50) == 1275)
            }
            if Bool.random() { usleep(3000) }
        }
    }

    @Test("nested work, and work from several threads at once")
    func nested() async {
        let workers = Workers(count: 3)
        let total = Atomic(0)
        workers.forEach(40) { piece in
            workers.forEach(10) { inner in total.add(piece * 10 + inner, ordering: .relaxed) }
        }
        #expect(total.load(ordering: .relaxed) == 399 * 400 / 2)
        let sums = await withTaskGroup(of: Int.self) { group in
            for _ in 0..<4 {
                group.addTask { (0..<2000).reduce(0) { sum, _ in sum + self.sum(workers, pieces: 20) } }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(sums == Array(repeating: 2000 * 210, count: 4))
    }
}

// An SDK and the clients of `ws` at a running server: node streams.mjs FOLDER HOST:STREAM HOST:WORKER
//
// FOLDER is one of those beside this file: its packages are used. Prints one line for each thing that
// holds, and ends with an error at the first that does not.
import assert from 'node:assert/strict'
import { once } from 'node:events'

const [folder, stream, worker] = process.argv.slice(2)
const { registerWorker, TriggerAction, WebSocket } = await import(`./${folder}/packages.mjs`)
const room = { stream_name: 'chat', group_id: 'room-1' }
const u1 = { ...room, item_id: 'u1' }

/** A client of the stream port: what it was told, in order. */
class Subscriber {
  #frames = []
  #waiting = []

  static async at(path, protocols) {
    const subscriber = new Subscriber()
    subscriber.socket = new WebSocket(`ws://${stream}${path}`, protocols)
    subscriber.socket.on('message', (data, isBinary) => {
      assert.equal(isBinary, false)
      const message = JSON.parse(data)
      const wanted = subscriber.#waiting.shift()
      wanted ? wanted(message) : subscriber.#frames.push(message)
    })
    await once(subscriber.socket, 'open')
    return subscriber
  }

  join(data) {
    this.socket.send(JSON.stringify({ type: 'join', data }))
  }

  async next() {
    return this.#frames.shift() ?? new Promise(resolve => this.#waiting.push(resolve))
  }

  async hears(id, event) {
    const { timestamp, ...rest } = await this.next()
    assert.ok(Number.isInteger(timestamp))
    assert.deepEqual(rest, { type: 'stream', streamName: 'chat', groupId: 'room-1', id, event })
  }
}

const iii = registerWorker(`ws://${worker}`, { workerName: 'test' })
const call = (name, payload) => iii.trigger({ function_id: `stream::${name}`, payload })

const byPath = await Subscriber.at('/stream/chat/room-1/')
await byPath.hears(null, { type: 'sync', data: [] })
const byJoin = await Subscriber.at('/', ['Authorization', 'token'])
assert.equal(byJoin.socket.protocol, 'Authorization')
byJoin.join({ subscriptionId: 's1', streamName: 'chat', groupId: 'room-1' })
await byJoin.hears(null, { type: 'sync', data: [] })
byJoin.join({ subscriptionId: 's2', streamName: 'chat', groupId: 'room-1', id: 'u1' })
await byJoin.hears('u1', { type: 'sync', data: null })
console.log('a path and a join are answered with a sync')

/** What all three subscriptions hear. */
const allHear = async (id, event) => {
  await byPath.hears(id, event)
  await byJoin.hears(id, event)
  await byJoin.hears(id, event)
}

assert.deepEqual(await call('set', { ...u1, data: { n: 1 } }), { new_value: { n: 1 }, old_value: null })
await allHear('u1', { type: 'create', data: { n: 1 } })
assert.deepEqual(await call('update', { ...u1, ops: [{ type: 'increment', path: 'n', by: 2 }] }), {
  new_value: { n: 3 },
  old_value: { n: 1 },
})
await allHear('u1', { type: 'update', data: { n: 3 } })
assert.deepEqual(await call('get', u1), { n: 3 })
assert.equal(await call('get', { ...room, item_id: 'nobody' }), undefined)
assert.deepEqual(await call('list', room), [{ n: 3 }])
assert.deepEqual(await call('list_groups', { stream_name: 'chat' }), ['room-1'])
assert.deepEqual(await call('list_all', {}), { count: 1, stream: [{ groups: ['room-1'], id: 'chat' }] })
assert.equal(await call('send', { ...room, id: 'u1', type: 'typing', data: [1] }), null)
await allHear('u1', { type: 'event', event: { type: 'typing', data: [1] } })
assert.deepEqual(await call('delete', u1), { old_value: { n: 3 } })
await allHear('u1', { type: 'delete', data: { n: 3 } })
console.log('the eight functions answer and are heard')

iii.trigger({ function_id: 'stream::set', payload: { ...u1, data: 'void' }, action: TriggerAction.Void() })
await allHear('u1', { type: 'create', data: 'void' })
await assert.rejects(call('set', { stream_name: 'chat' }), { code: 'deserialization_error' })
await assert.rejects(iii.trigger({ function_id: 'nowhere', payload: {} }), { code: 'function_not_found' })
console.log('void calls are made and errors have their codes')

const other = registerWorker(`ws://${worker}`, { workerName: 'other' })
other.registerFunction('test::double', async ({ n }) => ({ n: 2 * n }))
let doubled
for (const until = Date.now() + 60_000; doubled === undefined; ) {
  assert.ok(Date.now() < until, 'the function was not registered in time')
  doubled = await iii.trigger({ function_id: 'test::double', payload: { n: 21 } }).catch(() => undefined)
}
assert.deepEqual(doubled, { n: 42 })
console.log('one SDK calls the function of another')

for (const { socket } of [byPath, byJoin]) {
  socket.close(1000)
  const [code] = await once(socket, 'close')
  assert.equal(code, 1000)
}
console.log('a close is answered')
await Promise.all([iii.shutdown(), other.shutdown()])
console.log('done')
process.exit() // two telemetry senders in one process: the first is never ended by the SDK

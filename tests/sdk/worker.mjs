// A worker program on the Node SDK, which does what it is told: node worker.mjs FOLDER ws://HOST:PORT
//
// FOLDER is one of those beside this file: its packages are used. Each line of the input is one order
// as JSON, each line of the output that begins with `{` one thing that it saw. `../sdks.rs` says which.
import { createInterface } from 'node:readline'

const [folder, address] = process.argv.slice(2)
const { createStream, Logger, registerWorker, TriggerAction } = await import(`./${folder}/packages.mjs`)

const iii = registerWorker(address, { workerName: folder })
const functions = new Map()
const triggers = new Map()
const tell = line => process.stdout.write(`${JSON.stringify(line)}\n`)

/** Values of one stream, kept by this program. */
class Store {
  #items = new Map()

  #key({ group_id, item_id }) {
    return JSON.stringify([group_id, item_id])
  }

  async get(input) {
    return this.#items.get(this.#key(input)) ?? null
  }

  async set(input) {
    tell({ called: `stream::set(${input.stream_name})`, data: input })
    const old_value = this.#items.get(this.#key(input)) ?? null
    this.#items.set(this.#key(input), input.data)
    return { old_value, new_value: input.data }
  }

  async delete(input) {
    const old_value = this.#items.get(this.#key(input)) ?? null
    this.#items.delete(this.#key(input))
    return { old_value }
  }

  async list({ group_id }) {
    return [...this.#items].filter(([key]) => JSON.parse(key)[0] === group_id).map(([, value]) => value)
  }

  async listGroups() {
    return [...new Set([...this.#items.keys()].map(key => JSON.parse(key)[0]))]
  }
}

const orders = {
  function({ id, answer, fails }) {
    const handler = async data => {
      tell({ called: id, data })
      if (fails) throw new Error(fails)
      return answer
    }
    functions.set(id, iii.registerFunction(id, handler))
  },

  unregister_function({ id }) {
    functions.get(id).unregister()
  },

  trigger({ name, type, function_id, config }) {
    triggers.set(name, iii.registerTrigger({ type, function_id, config }))
  },

  unregister_trigger({ name }) {
    triggers.get(name).unregister()
  },

  store({ stream }) {
    createStream(iii, stream, new Store())
  },

  async call({ function_id, payload }) {
    try {
      const result = await iii.trigger({ function_id, payload })
      tell({ answered: true, result })
    } catch ({ code, message }) {
      tell({ answered: true, error: { code, message } })
    }
  },

  tell({ function_id, payload }) {
    iii.trigger({ function_id, payload, action: TriggerAction.Void() })
  },

  log({ level, message, data }) {
    new Logger()[level](message, data)
  },
}

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line)
  await orders[order.order](order)
}
await iii.shutdown()
process.exit()

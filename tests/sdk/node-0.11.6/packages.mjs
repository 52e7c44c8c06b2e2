// The packages installed here, under the names that the programs beside this folder use.
export { Logger, registerWorker, TriggerAction } from 'iii-sdk'
export { default as WebSocket } from 'ws'

export const createStream = (iii, name, store) => iii.createStream(name, store)

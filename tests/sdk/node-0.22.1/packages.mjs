// The packages installed here, under the names that the programs beside this folder use.
export { Logger } from '@iii-dev/helpers/observability'
export { registerWorker, TriggerAction } from 'iii-sdk'
export { createStream } from 'iii-sdk/helpers'
export { default as WebSocket } from 'ws'

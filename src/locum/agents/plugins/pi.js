// Keeps pi from asking again by itself, for which it has no flag, and tells locum, as a line of JSON on standard error,
// what a provider's refusal said beside its sentence. Who started the run decides what is tried next, and where.
import { SettingsManager } from "@mariozechner/pi-coding-agent"
import { refusal, tell } from "./refusal.js"

export default (pi) => {
  const settings = SettingsManager.prototype
  const { getRetrySettings, getProviderRetrySettings } = settings
  settings.getRetrySettings = function () {
    return { ...getRetrySettings?.call(this), enabled: false }
  }
  settings.getProviderRetrySettings = function () {
    return { ...getProviderRetrySettings?.call(this), maxRetries: 0 }
  }
  pi.on("agent_end", ({ messages }) => {
    const end = messages.at(-1)
    if (end?.stopReason === "error" && refusal().statusCode) tell("refusal", { message: end.errorMessage, ...refusal() })
  })
}

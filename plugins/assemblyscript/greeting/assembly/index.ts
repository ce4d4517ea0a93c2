// Greets: sets one response header, and answers one path by itself. Both come from the plugin's configuration.
//
// The law: a plugin context owns its settings, a stream context reads those of its root context and keeps nothing.

// The callbacks that the host looks for.
export * from "@solo-io/proxy-runtime/proxy";
import {
  Context, FilterHeadersStatusValues, GrpcStatusValues, LogLevelValues, RootContext, log, registerRootContext,
  send_local_response, stream_context,
} from "@solo-io/proxy-runtime";
import { BufferTypeValues, get_buffer_bytes } from "@solo-io/proxy-runtime/runtime";
import { Settings, parse } from "./settings";

class GreetingRoot extends RootContext {
  settings: Settings = new Settings();

  createContext(context_id: u32): Context {
    return new Greeting(context_id, this);
  }

  // Does not call the SDK's own onConfigure, which takes the size of the configuration for the address to write it to.
  onConfigure(configuration_size: u32): bool {
    const document = get_buffer_bytes(BufferTypeValues.PluginConfiguration, 0, configuration_size);
    this.settings = parse(String.UTF8.decode(document));
    if (this.settings.error != "") {
      log(LogLevelValues.error, "greeting: bad configuration: " + this.settings.error);
      return false;
    }
    return true;
  }
}

class Greeting extends Context {
  constructor(context_id: u32, root: GreetingRoot) {
    super(context_id, root);
  }

  private settings(): Settings {
    return (this.root_context as GreetingRoot).settings;
  }

  onRequestHeaders(count: u32, end_of_stream: bool): FilterHeadersStatusValues {
    const settings = this.settings();
    if (settings.reply_path == "" || stream_context.headers.request.get(":path").split("?")[0] != settings.reply_path) {
      return FilterHeadersStatusValues.Continue;
    }
    send_local_response(
      settings.reply_status, "greeting", String.UTF8.encode(settings.reply_body), [], GrpcStatusValues.InvalidCode,
    );
    return FilterHeadersStatusValues.StopIteration;
  }

  onResponseHeaders(count: u32, end_of_stream: bool): FilterHeadersStatusValues {
    const settings = this.settings();
    stream_context.headers.response.replace(settings.header, settings.value);
    return FilterHeadersStatusValues.Continue;
  }
}

// The SDK asks the host for the property plugin_root_id and wants a root context of that name: the plugin's name.
registerRootContext((context_id: u32) => { return new GreetingRoot(context_id); }, "greeting");

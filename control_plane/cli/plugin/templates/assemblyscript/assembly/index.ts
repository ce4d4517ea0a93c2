// The callbacks that the host looks for.
export * from "@solo-io/proxy-runtime/proxy";
import {
  Context, FilterHeadersStatusValues, LogLevelValues, RootContext, log, registerRootContext, stream_context,
} from "@solo-io/proxy-runtime";
import { BufferTypeValues, get_buffer_bytes } from "@solo-io/proxy-runtime/runtime";

// One for each route that has the plugin.
class Root extends RootContext {
  greeting: string = "";

  createContext(context_id: u32): Context {
    return new Greeting(context_id, this);
  }

  // Does not call the SDK's own onConfigure, which takes the size of the configuration for the address to write it to.
  onConfigure(configuration_size: u32): bool {
    this.greeting = String.UTF8.decode(get_buffer_bytes(BufferTypeValues.PluginConfiguration, 0, configuration_size));
    if (this.greeting == "") {
      log(LogLevelValues.error, "bad configuration: a text is expected");
      return false;
    }
    return true;
  }
}

// One for each request.
class Greeting extends Context {
  constructor(context_id: u32, root: Root) {
    super(context_id, root);
  }

  onResponseHeaders(count: u32, end_of_stream: bool): FilterHeadersStatusValues {
    stream_context.headers.response.replace("x-greeting", (this.root_context as Root).greeting);
    return FilterHeadersStatusValues.Continue;
  }
}

// The SDK asks the host for the plugin's name and wants a root context of that name.
registerRootContext((context_id: u32) => { return new Root(context_id); }, "{{name}}");

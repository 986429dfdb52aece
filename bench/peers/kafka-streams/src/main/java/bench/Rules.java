package bench;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;

/** Eight rules over an event and what was known before it. */
final class Rules {

  private static final double LEAST_KM = 500;
  private static final double FASTEST_KMH = 900;
  private static final double HOUR = 3_600_000;
  private static final long AT_ONCE = 30 * 60_000;
  private static final int LOW = 21;
  private static final int MEDIUM = 47;
  private static final int HIGH = 73;
  private static final int CRITICAL = 99;

  private Rules() {}

  /** Judges an event and puts it into the state. Returns the findings that are new. */
  static List<Finding> apply(UserState state, Event event, Context now) {
    List<Finding> found = new ArrayList<>();
    UserState.Session before = state.sessions.get(event.uid());
    if (before != null) {
      compare(before, event, now, found);
    }
    if (!event.deleted()) {
      travel(state, event, now, found);
      others(state, event, now, found);
    }
    remember(state, before, event, now);
    found.removeIf(each -> !state.raise((event.uid() + each.rule() + each.subject()).hashCode()));
    return found;
  }

  private static void compare(UserState.Session before, Event event, Context now, List<Finding> found) {
    Context then = before.context;
    if (!then.ip().equals(now.ip())) {
      found.add(new Finding("ip-change", LOW, now.ip(), now.ip(), then.ip()));
    }
    if (then.place().differs(now.place())) {
      String country = now.place().country();
      found.add(new Finding("location-change", HIGH, country, country, then.place().country()));
    }
    if (!then.client().equals(now.client())) {
      found.add(new Finding("device-change", MEDIUM, now.client(), now.client(), then.client()));
    }
    if (!before.scopes.containsAll(event.scopes())) {
      Set<String> added = new TreeSet<>(event.scopes());
      added.removeAll(before.scopes);
      found.add(new Finding("scope-escalation", HIGH, added.toString(), added.toString(), before.scopes.toString()));
    }
    ended(before, event, found);
  }

  private static void ended(UserState.Session before, Event event, List<Finding> found) {
    long activity = event.activity();
    if (before.deleted && !event.deleted() && activity > before.activity) {
      found.add(new Finding("use-after-revocation", CRITICAL, "", "" + activity, "" + before.activity));
    }
    if (before.expires > 0 && activity > before.expires) {
      found.add(new Finding("use-after-expiry", HIGH, "", "" + activity, "" + before.expires));
    }
  }

  private static void travel(UserState state, Event event, Context now, List<Finding> found) {
    if (state.lastContext == null) {
      return;
    }
    double kilometres = state.lastContext.place().kilometres(now.place());
    double hours = Math.max(Math.abs(event.activity() - state.lastActivity), 1000) / HOUR;
    if (kilometres > LEAST_KM && kilometres / hours > FASTEST_KMH) {
      String places = state.lastContext.place().country() + "-" + now.place().country();
      String speed = Math.round(kilometres / hours) + " km/h";
      found.add(new Finding("impossible-travel", HIGH, places, speed, FASTEST_KMH + " km/h"));
    }
  }

  private static void others(UserState state, Event event, Context now, List<Finding> found) {
    for (var entry : state.sessions.entrySet()) {
      UserState.Session other = entry.getValue();
      boolean atOnce = Math.abs(event.activity() - other.activity) <= AT_ONCE;
      if (atOnce && !entry.getKey().equals(event.uid()) && other.context.place().differs(now.place())) {
        String country = other.context.place().country();
        found.add(new Finding("concurrent-countries", HIGH, country, now.place().country(), country));
      }
    }
  }

  private static void remember(UserState state, UserState.Session before, Event event, Context now) {
    UserState.Session session = before == null ? new UserState.Session() : before;
    if (before == null || event.activity() >= before.activity) {
      session.context = now;
      session.scopes = event.scopes();
      session.activity = event.activity();
      session.expires = event.maxAgeMillis() > 0 ? event.activity() + event.maxAgeMillis() : 0;
      session.deleted |= event.deleted();
      state.lastContext = now;
      state.lastActivity = event.activity();
    }
    state.put(event.uid(), session);
  }
}

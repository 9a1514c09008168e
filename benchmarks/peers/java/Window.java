import java.time.Instant;
import java.time.YearMonth;
import java.time.ZoneOffset;

/** Starts of windows, in seconds UTC, and their state {count, sum, min, max}, in units of 10^-9. */
final class Window {
  static final int HOURLY = 1, DAILY = 2, MONTHLY = 3, LIFETIME = 4;
  static final long HOUR = 3_600, DAY = 86_400;

  static long[] add(long[] state, long quantity) {
    if (state == null) return new long[] {1, quantity, quantity, quantity};
    state[0]++;
    state[1] = Math.addExact(state[1], quantity);
    if (quantity < state[2]) state[2] = quantity;
    if (quantity > state[3]) state[3] = quantity;
    return state;
  }

  static long monthStart(long seconds) {
    return YearMonth.from(Instant.ofEpochSecond(seconds).atZone(ZoneOffset.UTC))
        .atDay(1).atStartOfDay().toEpochSecond(ZoneOffset.UTC);
  }

  static long nextMonth(long monthStart) {
    return monthStart(monthStart + 32 * DAY);
  }

  private Window() {}
}
